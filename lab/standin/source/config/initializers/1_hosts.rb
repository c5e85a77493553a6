# frozen_string_literal: true

if Rails.env.production? && ENV['LOCAL_DOMAIN'].blank? && ENV['SECRET_KEY_BASE_DUMMY'].blank?
  abort 'The LOCAL_DOMAIN environment variable is not set: Mastodon cannot start without the domain of the instance.'
end

local_domain = ENV['LOCAL_DOMAIN'].presence || 'localhost'
web_domain = ENV['WEB_DOMAIN'].presence || local_domain
alternate_domains = ENV.fetch('ALTERNATE_DOMAINS', '').split(/\s*,\s*/)

Rails.application.configure do
  config.x.local_domain = local_domain
  config.x.web_domain = web_domain
  config.x.alternate_domains = alternate_domains
  config.x.streaming_api_base_url = ENV['STREAMING_API_BASE_URL'].presence || "wss://#{web_domain}"
  config.action_mailer.default_url_options = { host: web_domain, protocol: 'https://', trailing_slash: false }

  if Rails.env.production?
    config.hosts = [local_domain, web_domain, *alternate_domains].uniq
    config.host_authorization = { exclude: ->(request) { request.path == '/health' } }
  end
end
