# frozen_string_literal: true

Rails.application.config.content_security_policy do |policy|
  media_host = %w(S3_ALIAS_HOST S3_CLOUDFRONT_HOST S3_HOSTNAME).filter_map { |name| ENV[name].presence }.first
  media_host &&= "#{ENV.fetch('S3_PROTOCOL', 'https')}://#{media_host}"
  assets_host = ENV['CDN_HOST'].presence || "https://#{Rails.configuration.x.web_domain}"

  policy.default_src :none
  policy.frame_ancestors :none
  policy.base_uri :none
  policy.font_src :self, assets_host
  policy.img_src :self, :data, :blob, *[assets_host, media_host].compact
  policy.media_src :self, :data, *[assets_host, media_host].compact
  policy.style_src :self, assets_host
  policy.script_src :self, assets_host
  policy.connect_src :self, :data, :blob, *[media_host, Rails.configuration.x.streaming_api_base_url].compact
  policy.form_action :self
end
