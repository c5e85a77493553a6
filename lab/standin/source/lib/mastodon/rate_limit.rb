# frozen_string_literal: true

module Mastodon
  # How often one token, or one address without a token, may ask. What the lab's tests look at is not counted.
  class RateLimit
    Limit = Struct.new(:most, :period, :counts)

    LIMITS = {
      api: Limit.new(300, 5.minutes, ->(_, path) { path.start_with?('/api') }),
      uploads: Limit.new(30, 30.minutes, ->(request, path) { request.post? && path.match?(%r{\A/api/v\d/media\z}) }),
      posts: Limit.new(300, 3.hours, ->(request, path) { request.post? && path == '/api/v1/statuses' }),
      applications: Limit.new(5, 10.minutes, ->(request, path) { request.post? && path == '/api/v1/apps' }),
      sign_ins: Limit.new(25, 5.minutes, ->(request, path) { request.post? && path == '/auth/sign_in' }),
    }.freeze

    def initialize(app)
      @app = app
    end

    def call(env)
      request = ActionDispatch::Request.new(env)
      limit, left = tightest(request)
      return [429, headers(limit, 0).merge('content-type' => 'application/json'), [{ error: 'Too many requests' }.to_json]] if limit && left.negative?

      status, headers, body = @app.call(env)
      [status, limit && request.path.start_with?('/api') ? headers.merge(headers(limit, left)) : headers, body]
    end

    private

    # The limit that is reached first, and how many requests it leaves; nil where none counts this request.
    def tightest(request)
      limits = LIMITS.select { |_, limit| !request.path.start_with?('/api/v1/standin') && limit.counts.call(request, request.path) }
      return if limits.empty?

      who = request.authorization || request.remote_ip
      used = Rails.application.redis_config.pool.with do |redis|
        limits.map { |name, limit| [limit, count(redis, "rate:#{name}:#{who}", limit.period.to_i)] }
      end
      used.map { |limit, times| [limit, limit.most - times] }.min_by(&:last)
    rescue Redis::BaseError
      nil
    end

    def count(redis, key, period)
      key = "#{key}:#{Time.now.to_i / period}"
      redis.multi do |step|
        step.incr(key)
        step.expire(key, period)
      end.first
    end

    def headers(limit, left)
      now = Time.now.utc
      reset = now + limit.period - (now.to_i % limit.period)
      { 'x-ratelimit-limit' => limit.most.to_s, 'x-ratelimit-remaining' => left.to_s, 'x-ratelimit-reset' => reset.iso8601(6) }
    end
  end
end
