# frozen_string_literal: true

# Leaves a trace of who scheduled it and of who ran it; `origin` is `hostname:pid` of the scheduling process.
class Scheduler::HeartbeatScheduler
  include Sidekiq::Job

  sidekiq_options queue: 'scheduler', retry: 0

  KEY = 'standin:schedulers'
  KEPT = 500

  def perform(origin)
    JobRun.record!(queue: 'scheduler', job: self.class.name, origin: origin)
    JobRun.where(queue: 'scheduler').where(id: ..(JobRun.maximum(:id) - KEPT)).delete_all
    Rails.application.redis_config.pool.with { |redis| redis.hset(KEY, origin, Time.now.utc.iso8601) }
  end
end
