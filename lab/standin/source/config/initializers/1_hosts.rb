# frozen_string_literal: true

local_domain = ENV.fetch('LOCAL_DOMAIN') { "localhost:#{ENV.fetch('PORT', 3000)}" }
web_domain = ENV.fetch('WEB_DOMAIN', local_domain)
alternate_domains = ENV.fetch('ALTERNATE_DOMAINS', '').split(/\s*,\s*/)

Rails.application.configure do
  config.x.local_domain = local_domain
  config.x.web_domain = web_domain
  config.x.alternate_domains = alternate_domains
  config.x.streaming_api_base_url = ENV.fetch('STREAMING_API_BASE_URL', "wss://#{web_domain}")
  config.action_mailer.default_url_options = { host: web_domain, protocol: 'https://', trailing_slash: false }

  if Rails.env.production?
    config.hosts = [local_domain, web_domain, *alternate_domains].compact_blank.uniq
    config.host_authorization = { exclude: ->(request) { request.path == '/health' } }
  end
end
