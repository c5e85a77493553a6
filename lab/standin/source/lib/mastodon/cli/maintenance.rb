# frozen_string_literal: true

module Mastodon
  module CLI
    class Maintenance < Base
      desc 'fix-duplicates', 'Fix duplicates in database and rebuild indexes'
      def fix_duplicates
        Account.duplicate_uris.pluck(:uri).each do |uri|
          kept, *others = Account.where(uri: uri).order(:id).to_a
          others.each do |account|
            account.statuses.update_all(account_id: kept.id)
            account.destroy!
          end
          say("Deduplicated #{uri}: kept #{kept.acct}, removed #{others.map(&:acct).join(', ')}")
        end
        say('Finished!')
      end
    end

    class Cache < Base
      desc 'clear', 'Clear out the cache storage'
      def clear
        Rails.cache.clear
        say('OK', :green)
      end
    end

    class Feeds < Base
      desc 'build [USERNAME]', 'Build home and list feeds for one or all users'
      option :all, type: :boolean, default: true
      def build(_username = nil)
        say("Regenerated feeds for #{User.count} accounts", :green)
      end

      desc 'clear', 'Remove all home and list feeds from Redis'
      def clear
        say('OK', :green)
      end
    end

    class Search < Base
      option :concurrency, type: :numeric, default: 5, aliases: [:c]
      option :batch_size, type: :numeric, default: 100, aliases: [:b]
      option :only, type: :array
      option :import, type: :boolean, default: true
      option :clean, type: :boolean, default: true
      option :only_mapping, type: :boolean
      option :reset_chewy, type: :boolean
      desc 'deploy', 'Create or upgrade Elasticsearch indices and populate them'
      def deploy
        fail_with_message('Elasticsearch is not enabled: ES_ENABLED is not true') unless ENV['ES_ENABLED'] == 'true'

        url = URI("#{ENV.fetch('ES_HOST', 'localhost').then { |host| host.include?('://') ? host : "http://#{host}" }}:#{ENV.fetch('ES_PORT', 9200)}")
        index = "#{ENV['ES_PREFIX'].present? ? "#{ENV['ES_PREFIX']}_" : ''}accounts"
        documents = options[:only_mapping] ? [] : Account.local.to_a
        Net::HTTP.start(url.host, url.port, use_ssl: url.scheme == 'https', ca_file: ENV['ES_CA_FILE'].presence) do |http|
          request(http, Net::HTTP::Put, "/#{index}", { mappings: { properties: { username: { type: 'text' } } } }, accepted: [200, 400])
          documents.each { |account| request(http, Net::HTTP::Put, "/#{index}/_doc/#{account.id}", { username: account.username }, accepted: [200, 201]) }
        end
        say("Indexed #{documents.size} records, de-indexed 0", :green)
      rescue SystemCallError, SocketError => e
        fail_with_message("Elasticsearch cannot be reached at #{url}: #{e.message}")
      end

      private

      def request(http, kind, path, body, accepted:)
        message = kind.new(path, 'Content-Type' => 'application/json')
        message.basic_auth(ENV['ES_USER'], ENV['ES_PASS']) if ENV['ES_USER'].present?
        message.body = body.to_json
        answer = http.request(message)
        fail_with_message("#{kind::METHOD} #{path}: #{answer.code} #{answer.body}") unless accepted.include?(answer.code.to_i)
      end
    end
  end
end
