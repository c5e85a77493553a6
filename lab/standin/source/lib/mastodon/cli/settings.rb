# frozen_string_literal: true

module Mastodon
  module CLI
    class Registrations < Base
      desc 'open', 'Open registrations'
      def open
        Setting['registrations_mode'] = 'open'
        say('OK', :green)
      end

      desc 'approved', 'Open approval-based registrations'
      option :require_reason, type: :boolean, aliases: [:require_invite_text]
      def approved
        Setting['registrations_mode'] = 'approved'
        say('OK', :green)
      end

      desc 'close', 'Close registrations'
      def close
        Setting['registrations_mode'] = 'none'
        say('OK', :green)
      end
    end

    class Settings < Base
      desc 'registrations SUBCOMMAND ...ARGS', 'Manage state of registrations'
      subcommand 'registrations', Registrations
    end
  end
end
