# frozen_string_literal: true

namespace :db do
  namespace :encryption do
    Rake::Task['db:encryption:init'].clear if Rake::Task.task_defined?('db:encryption:init')

    desc 'Generate a set of keys for configuring Active Record encryption in a given environment'
    task :init do # rubocop:disable Rails/RakeEnvironment
      names = %w(DETERMINISTIC_KEY KEY_DERIVATION_SALT PRIMARY_KEY).map { |name| "ACTIVE_RECORD_ENCRYPTION_#{name}" }
      if names.any? { |name| ENV[name].present? } && ENV['IGNORE_ALREADY_SET_SECRETS'] != 'true'
        puts 'Secrets for this server have already been set: new ones come with `IGNORE_ALREADY_SET_SECRETS=true`.'
        next
      end

      puts <<~MESSAGE
        Add the following secret environment variables to your Mastodon environment (e.g. .env.production), ensure they are shared across all your nodes and do not change them after they are set:

        ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY=#{SecureRandom.alphanumeric(32)}
        ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT=#{SecureRandom.alphanumeric(32)}
        ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY=#{SecureRandom.alphanumeric(32)}
      MESSAGE
    end
  end

  namespace :migrate do
    desc 'Setup the db or migrate depending on state of db'
    task setup: :environment do
      fresh = ActiveRecord::Base.connection_pool.migration_context.current_version.zero?
    rescue ActiveRecord::NoDatabaseError
      Rake::Task['db:setup'].invoke
    else
      Rake::Task['db:migrate'].invoke
      Rake::Task['db:seed'].invoke if fresh
    end
  end

  desc 'What a database must be before migrations run'
  task pre_migration_check: :environment do
    connection = ActiveRecord::Base.connection
    server = connection.select_value("SELECT current_setting('server_version_num')").to_i
    abort 'This version of Mastodon requires PostgreSQL 14.0 or newer. Please update PostgreSQL before updating Mastodon.' if server < 140_000

    # Behind a transaction pool, Rails loses its advisory lock as soon as there is other traffic. That it may go well
    # on a quiet day must not hide it: two connections that share a session are refused here.
    other = ActiveRecord::Base.connection_db_config.new_connection
    sessions = Array.new(10) { [connection, other].map { |each| each.select_value('SELECT pg_backend_pid()') } }
    other.disconnect!
    if sessions.any? { |first, second| first == second }
      raise ActiveRecord::ConcurrentMigrationError, 'Failed to release advisory lock: the database connection goes through a transaction pool'
    end

    if ENV['SKIP_POST_DEPLOYMENT_MIGRATIONS'] && ActiveRecord::Base.connection_pool.migration_context.current_version < Mastodon::Version::OLDEST_SCHEMA
      abort <<~MESSAGE
        Zero-downtime migrations from Mastodon versions earlier than 4.2.0 are not supported.
        Run migrations without `SKIP_POST_DEPLOYMENT_MIGRATIONS`, with all services stopped.
      MESSAGE
    end
  end

  Rake::Task['db:migrate'].enhance(['db:pre_migration_check'])
end
