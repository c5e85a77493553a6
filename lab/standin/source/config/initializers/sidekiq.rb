# frozen_string_literal: true

require_relative '../../lib/mastodon/sidekiq_scheduler'

Sidekiq.configure_server do |config|
  config.redis = Rails.application.redis_config.sidekiq

  if ENV['MASTODON_SIDEKIQ_READY_FILENAME'].present?
    ready = Rails.root.join('tmp', ENV['MASTODON_SIDEKIQ_READY_FILENAME'])
    FileUtils.rm_f(ready)
    config.on(:startup) { FileUtils.touch(ready) }
    config.on(:shutdown) { FileUtils.rm_f(ready) }
  end

  Mastodon::SidekiqScheduler.install(config)
end

Sidekiq.configure_client do |config|
  config.redis = Rails.application.redis_config.sidekiq
end

Sidekiq.strict_args!(false)
Sidekiq.default_configuration.logger.level = Logger.const_get(ENV.fetch('RAILS_LOG_LEVEL', 'info').upcase)
