# frozen_string_literal: true

module Mastodon
  module CLI
    # There are no other servers, so cached media is what a remote account has posted.
    class Media < Base
      option :days, type: :numeric, default: 7, aliases: [:d]
      option :prune_profiles, type: :boolean, default: false
      option :remove_headers, type: :boolean, default: false
      option :include_follows, type: :boolean, default: false
      option :keep_interacted, type: :boolean, default: false
      option :concurrency, type: :numeric, default: 5, aliases: [:c]
      option :dry_run, type: :boolean, default: false
      desc 'remove', 'Remove remote media files, headers or avatars'
      def remove
        cached = MediaAttachment.where(account: Account.remote, created_at: ...options[:days].days.ago)
        count = cached.count
        size = cached.sum(:file_file_size)
        cached.each(&:destroy!) unless dry_run?
        say("Removed #{count} media attachments (approx. #{ActiveSupport::NumberHelper.number_to_human_size(size)})#{dry_run_suffix}", :green)
      end

      desc 'usage', 'Calculate disk space consumed by Mastodon'
      def usage
        say("Attachments:\t#{ActiveSupport::NumberHelper.number_to_human_size(MediaAttachment.sum(:file_file_size))}")
      end
    end

    class PreviewCards < Base
      option :days, type: :numeric, default: 180
      option :concurrency, type: :numeric, default: 5, aliases: [:c]
      option :verbose, type: :boolean, aliases: [:v]
      option :dry_run, type: :boolean, default: false
      option :link, type: :boolean, default: false
      desc 'remove', 'Remove preview cards'
      def remove
        cards = PreviewCard.where.not(image_file_name: nil).where(updated_at: ...options[:days].days.ago)
        count = cards.count
        cards.update_all(image_file_name: nil) unless dry_run?
        say("Removed #{count} #{'link-type ' if options[:link]}preview cards (approx. 0 Bytes)#{dry_run_suffix}", :green)
      end
    end

    class Statuses < Base
      option :days, type: :numeric, default: 90
      option :batch_size, type: :numeric, default: 1_000, aliases: [:b]
      option :continue, type: :boolean, default: false
      option :clean_followed, type: :boolean
      option :skip_status_remove, type: :boolean
      option :skip_media_remove, type: :boolean
      option :compress_database, type: :boolean
      desc 'remove', 'Remove unreferenced statuses'
      def remove
        count = options[:skip_status_remove] ? 0 : Status.where(account: Account.remote, created_at: ...options[:days].days.ago).delete_all
        ActiveRecord::Base.connection.execute('VACUUM ANALYZE statuses') if options[:compress_database]
        say("Done after 0s, removed #{count} out of #{count} statuses.", :green)
      end
    end
  end
end
