# frozen_string_literal: true

require_relative 'boot'

require 'net/http'
require 'resolv'

require 'rails'
require 'active_record/railtie'
require 'active_job/railtie'
require 'action_controller/railtie'
require 'action_mailer/railtie'
require 'action_view/railtie'

Bundler.require(*Rails.groups)

# What is in the environment wins over the files.
Dotenv.load(*%W(.env.#{Rails.env}.local .env.local .env.#{Rails.env} .env).map { |name| File.expand_path("../#{name}", __dir__) })

require_relative '../lib/mastodon/version'
require_relative '../lib/mastodon/redis_configuration'
require_relative '../lib/mastodon/cross_origin'
require_relative '../lib/mastodon/exporter'
require_relative '../lib/mastodon/public_files'
require_relative '../lib/mastodon/rate_limit'

module Mastodon
  class Application < Rails::Application
    config.load_defaults 7.2

    config.public_file_server.enabled = false
    config.middleware.insert_before 0, Mastodon::CrossOrigin
    config.middleware.use Mastodon::PublicFiles if ENV['RAILS_SERVE_STATIC_FILES'] == 'true'
    config.middleware.use Mastodon::RateLimit
    config.session_store :cookie_store, key: '_mastodon_session', secure: Rails.env.production?, same_site: :lax

    config.active_job.queue_adapter = :sidekiq
    config.action_mailer.deliver_later_queue_name = 'mailers'
    config.active_record.dump_schema_after_migration = false
    config.filter_parameters += %i(password secret token code _key email)

    def redis_config
      @redis_config ||= Mastodon::RedisConfiguration.new
    end
  end
end
