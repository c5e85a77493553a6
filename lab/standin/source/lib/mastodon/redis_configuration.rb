# frozen_string_literal: true

module Mastodon
  # Where Redis is, from the environment: REDIS_*, and SIDEKIQ_REDIS_* and CACHE_REDIS_*, which fall back to it.
  # A URL makes everything else under its prefix moot; host and port never give TLS.
  class RedisConfiguration
    def base
      @base ||= from_environment('REDIS_') || { url: address('localhost', 6379, 0, nil, nil), driver: driver }
    end

    def sidekiq
      @sidekiq ||= from_environment('SIDEKIQ_REDIS_') || base
    end

    def cache
      @cache ||= from_environment('CACHE_REDIS_') || base
    end

    def pool
      @pool ||= ConnectionPool.new(size: 10, timeout: 5) { Redis.new(**base) }
    end

    private

    # Mastodon takes hiredis unless REDIS_DRIVER is `ruby`; here there is Ruby's alone.
    def driver
      :ruby
    end

    def from_environment(prefix)
      url = ENV["#{prefix}URL"].presence
      return { url: url, driver: driver } if url

      host = ENV["#{prefix}HOST"].presence || ('localhost' if prefix == 'REDIS_')
      return if host.nil?

      port = ENV["#{prefix}PORT"].presence || (6379 if prefix == 'REDIS_')
      { url: address(host, port, ENV["#{prefix}DB"].presence || 0, ENV["#{prefix}USER"].presence, ENV["#{prefix}PASSWORD"].presence), driver: driver }
    end

    def address(host, port, database, user, password)
      uri = URI("redis://#{host}:#{port}/#{database}")
      uri.user = URI.encode_uri_component(user) if user
      uri.password = URI.encode_uri_component(password) if password
      uri.to_s
    end
  end
end
