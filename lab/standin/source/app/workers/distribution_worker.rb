# frozen_string_literal: true

# Tells the streaming servers of a new status, then has it sent out.
class DistributionWorker
  include Sidekiq::Job

  sidekiq_options queue: 'default', retry: 8

  def perform(status_id)
    status = Status.find(status_id)
    JobRun.record!(queue: 'default', job: self.class.name, status: status)

    payload = { event: 'update', payload: StatusSerializer.new(status).as_json, queued_at: (Time.now.to_f * 1000).to_i }.to_json
    Rails.application.redis_config.pool.with do |redis|
      redis.publish("timeline:#{status.account_id}", payload)
      redis.publish('timeline:public', payload) if status.visibility_public?
      redis.publish('timeline:public:local', payload) if status.visibility_public?
      status.text.scan(/#(\w+)/).flatten.each { |tag| redis.publish("timeline:hashtag:#{tag.downcase}", payload) } if status.visibility_public?
    end

    DeliveryWorker.perform_async(status.id)
  end
end
