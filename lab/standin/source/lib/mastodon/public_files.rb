# frozen_string_literal: true

require 'action_dispatch/middleware/static'

module Mastodon
  # Files below public/, with how long a browser may keep each.
  class PublicFiles
    def initialize(app)
      @app = app
      @files = ActionDispatch::FileHandler.new(Rails.public_path.to_s)
    end

    def call(env)
      status, headers, body = @files.attempt(env)
      return @app.call(env) if status.nil?

      headers['cache-control'] = "public, #{age(env['PATH_INFO'])}"
      headers['x-content-type-options'] = 'nosniff'
      [status, headers, body]
    end

    private

    # The service worker is under one name for ever; media never change.
    def age(path)
      case path
      when %r{\A/sw\.js} then "max-age=#{7.days.to_i}, must-revalidate"
      when %r{\A/system} then "max-age=#{28.days.to_i}, immutable"
      else "max-age=#{28.days.to_i}, must-revalidate"
      end
    end
  end
end
