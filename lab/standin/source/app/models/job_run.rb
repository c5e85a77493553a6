# frozen_string_literal: true

# Which process ran a background job: what a test asks to know whether a worker, or exec, did.
class JobRun < ApplicationRecord
  belongs_to :status, optional: true

  def self.record!(queue:, job:, status: nil, origin: nil)
    create!(queue: queue, job: job, status: status, hostname: Socket.gethostname, pid: Process.pid, origin: origin)
  end
end
