# frozen_string_literal: true

require 'thor'

module Mastodon
  module CLI
    # What the commands share: exit codes, messages, dry runs.
    class Base < Thor
      def self.exit_on_failure?
        true
      end

      # What a command says is for its user alone.
      def initialize(*)
        [ActiveRecord, ActiveJob, ActionMailer].each { |part| part::Base.logger = Logger.new(IO::NULL) }
        super
      end

      private

      def fail_with_message(message)
        raise Thor::Error, message
      end

      def report_errors(errors)
        fail_with_message(errors.map { |error| "Failure/Error: #{error.attribute}\n#{error.message}\n" }.join)
      end

      def dry_run?
        options[:dry_run]
      end

      def dry_run_suffix
        dry_run? ? ' (DRY RUN)' : ''
      end

      def find_user(username)
        Account.find_local(username)&.user || fail_with_message('No user with such username')
      end
    end
  end
end

require_relative 'cli/accounts'
require_relative 'cli/maintenance'
require_relative 'cli/media'
require_relative 'cli/settings'
require_relative 'cli/standin'

module Mastodon
  module CLI
    class Main < Base
      desc 'accounts SUBCOMMAND ...ARGS', 'Manage accounts'
      subcommand 'accounts', Accounts

      desc 'cache SUBCOMMAND ...ARGS', 'Manage cache'
      subcommand 'cache', Cache

      desc 'feeds SUBCOMMAND ...ARGS', 'Manage feeds'
      subcommand 'feeds', Feeds

      desc 'maintenance SUBCOMMAND ...ARGS', 'Various maintenance utilities'
      subcommand 'maintenance', Maintenance

      desc 'media SUBCOMMAND ...ARGS', 'Manage media files'
      subcommand 'media', Media

      desc 'preview_cards SUBCOMMAND ...ARGS', 'Manage preview cards'
      subcommand 'preview_cards', PreviewCards

      desc 'search SUBCOMMAND ...ARGS', 'Manage the search engine'
      subcommand 'search', Search

      desc 'settings SUBCOMMAND ...ARGS', 'Manage dynamic settings'
      subcommand 'settings', Settings

      desc 'standin SUBCOMMAND ...ARGS', 'What the lab looks at (not in Mastodon)'
      subcommand 'standin', Standin

      desc 'statuses SUBCOMMAND ...ARGS', 'Manage statuses'
      subcommand 'statuses', Statuses

      desc 'version', 'Show version'
      map %w(--version -v) => :version
      def version
        say(Mastodon::Version.to_s)
      end
    end
  end
end
