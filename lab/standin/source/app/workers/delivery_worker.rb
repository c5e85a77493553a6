# frozen_string_literal: true

# Signs a status with its author's key, as for another server's inbox. There are no other servers: nothing is sent.
class DeliveryWorker
  include Sidekiq::Job

  sidekiq_options queue: 'push', retry: 16

  def perform(status_id)
    status = Status.find(status_id)
    status.account.sign(StatusSerializer.new(status).as_json.to_json)
    JobRun.record!(queue: 'push', job: self.class.name, status: status)
  end
end
