# frozen_string_literal: true

module Mastodon
  # Lets other sites' scripts use the API.
  class CrossOrigin
    PATHS = %r{\A/(api/|\.well-known/|nodeinfo/|oauth/(token|revoke|userinfo)|@|users/)}

    def initialize(app)
      @app = app
    end

    def call(env)
      return @app.call(env) unless env['HTTP_ORIGIN'] && env['PATH_INFO'].match?(PATHS)
      return [200, allowed(env), []] if env['REQUEST_METHOD'] == 'OPTIONS' && env['HTTP_ACCESS_CONTROL_REQUEST_METHOD']

      status, headers, body = @app.call(env)
      [status, headers.merge(allowed(env)), body]
    end

    private

    def allowed(env)
      {
        'access-control-allow-origin' => '*',
        'access-control-allow-methods' => 'POST, PUT, DELETE, GET, PATCH, OPTIONS',
        'access-control-allow-headers' => env['HTTP_ACCESS_CONTROL_REQUEST_HEADERS'],
        'access-control-expose-headers' => 'Link, X-RateLimit-Reset, X-RateLimit-Limit, X-RateLimit-Remaining, X-Request-Id',
      }.compact
    end
  end
end
