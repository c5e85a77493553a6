# frozen_string_literal: true

Rails.application.configure do
  config.enable_reloading = false
  config.eager_load = true
  config.consider_all_requests_local = false
  config.action_controller.perform_caching = true
  config.asset_host = ENV['CDN_HOST'] if ENV['CDN_HOST'].present?

  # A load balancer asks for /health in plain HTTP and under any name.
  config.force_ssl = true
  config.ssl_options = { redirect: { exclude: ->(request) { request.path.start_with?('/health') } } }

  # Setting it replaces the private ranges that Rails trusts by default.
  if ENV['TRUSTED_PROXY_IP'].present?
    config.action_dispatch.trusted_proxies = ENV['TRUSTED_PROXY_IP'].split(/[\s,]+/).map { |range| IPAddr.new(range) }
  end

  config.log_level = ENV.fetch('RAILS_LOG_LEVEL', 'info').to_sym
  config.log_tags = [:request_id]
  config.logger = ActiveSupport::TaggedLogging.new(ActiveSupport::Logger.new($stdout, formatter: Logger::Formatter.new))
  config.active_support.report_deprecations = false

  config.action_mailer.perform_caching = false
  config.action_mailer.default_options = { from: ENV.fetch('SMTP_FROM_ADDRESS', 'notifications@localhost') }.merge(
    { reply_to: ENV['SMTP_REPLY_TO'].presence, return_path: ENV['SMTP_RETURN_PATH'].presence }.compact
  )
  config.action_mailer.delivery_method = ENV.fetch('SMTP_DELIVERY_METHOD', 'smtp').to_sym
  starttls = ENV.fetch('SMTP_ENABLE_STARTTLS', 'auto')
  config.action_mailer.smtp_settings = {
    address: ENV['SMTP_SERVER'],
    port: ENV.fetch('SMTP_PORT', 587).to_i,
    user_name: ENV['SMTP_LOGIN'].presence,
    password: ENV['SMTP_PASSWORD'].presence,
    domain: ENV['SMTP_DOMAIN'].presence || ENV['LOCAL_DOMAIN'],
    authentication: ENV['SMTP_AUTH_METHOD'] == 'none' ? nil : (ENV['SMTP_AUTH_METHOD'].presence || :plain),
    ca_file: ENV['SMTP_CA_FILE'].presence || '/etc/ssl/certs/ca-certificates.crt',
    openssl_verify_mode: ENV['SMTP_OPENSSL_VERIFY_MODE'].presence,
    enable_starttls: starttls == 'always',
    enable_starttls_auto: starttls == 'auto' && ENV.fetch('SMTP_ENABLE_STARTTLS_AUTO', 'true') != 'false',
    tls: ENV['SMTP_TLS'] == 'true',
    ssl: ENV['SMTP_SSL'] == 'true',
    read_timeout: 20,
  }.reject { |key, value| value.nil? || (value == false && key != :enable_starttls_auto) }

  config.action_dispatch.default_headers = {
    'Server' => 'Mastodon',
    'X-Frame-Options' => 'DENY',
    'X-Content-Type-Options' => 'nosniff',
    'X-XSS-Protection' => '0',
    'Referrer-Policy' => 'same-origin',
  }
end
