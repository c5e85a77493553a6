# frozen_string_literal: true

require_relative '../../lib/mastodon/sidekiq_scheduler'

Sidekiq.configure_server do |config|
  config.redis = Rails.application.redis_config.sidekiq

  if (name = ENV.fetch('MASTODON_SIDEKIQ_READY_FILENAME', nil))
    raise 'MASTODON_SIDEKIQ_READY_FILENAME is not a valid filename' if File.basename(name) != name

    ready = Rails.root.join('tmp', name)
    config.on(:startup) { FileUtils.touch(ready) }
    config.on(:shutdown) { FileUtils.rm_f(ready) }
  end

  config.on(:startup) { Mastodon::Exporter.start }

  Mastodon::SidekiqScheduler.install(config)
end

Sidekiq.configure_client do |config|
  config.redis = Rails.application.redis_config.sidekiq
end

Sidekiq.strict_args!(false)
Sidekiq.default_configuration.logger.level = Logger.const_get(ENV.fetch('RAILS_LOG_LEVEL', 'info').upcase)
