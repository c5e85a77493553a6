# frozen_string_literal: true

# Mastodon, too, takes development for granted: whoever runs it in production says so.
ENV['RAILS_ENV'] ||= 'development'
ENV['BUNDLE_GEMFILE'] ||= File.expand_path('../Gemfile', __dir__)

require 'bundler/setup'
