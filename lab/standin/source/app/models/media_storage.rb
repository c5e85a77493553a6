# frozen_string_literal: true

# Where media lives, by the same S3_* variables as Mastodon's.
module MediaStorage
  def self.current
    @current ||= ENV['S3_ENABLED'] == 'true' ? S3.new : Local.new
  end

  # Any S3-compatible store.
  class S3
    def initialize
      require 'aws-sdk-s3'

      @bucket = ENV.fetch('S3_BUCKET')
      @prefix = ENV['S3_KEY_PREFIX'].present? ? "#{ENV['S3_KEY_PREFIX']}/" : ''
      region = ENV.fetch('S3_REGION', 'us-east-1')
      options = {
        region: region,
        http_open_timeout: ENV.fetch('S3_OPEN_TIMEOUT', 5).to_i,
        http_read_timeout: ENV.fetch('S3_READ_TIMEOUT', 5).to_i,
        retry_limit: ENV.fetch('S3_RETRY_LIMIT', 0).to_i,
      }
      options[:endpoint] = ENV['S3_ENDPOINT'] if ENV['S3_ENDPOINT'].present?
      options[:force_path_style] = options.key?(:endpoint) && ENV['S3_OVERRIDE_PATH_STYLE'] != 'true'
      @client = Aws::S3::Client.new(**options)

      protocol = ENV.fetch('S3_PROTOCOL', 'https')
      alias_host = ENV['S3_ALIAS_HOST'].presence || ENV['S3_CLOUDFRONT_HOST'].presence
      @base = alias_host ? "#{protocol}://#{alias_host}" : "#{protocol}://#{ENV.fetch('S3_HOSTNAME', "s3-#{region}.amazonaws.com")}/#{@bucket}"
    end

    def put(key, file, content_type)
      acl = ENV.fetch('S3_PERMISSION', 'public-read').presence
      @client.put_object(**{ bucket: @bucket, key: @prefix + key, body: file, content_type: content_type, acl: acl,
                             cache_control: 'public, max-age=315576000, immutable' }.compact)
    end

    def delete(key)
      @client.delete_object(bucket: @bucket, key: @prefix + key)
    end

    def url(key)
      "#{@base}/#{@prefix}#{key}"
    end
  end

  # public/system, as in a Mastodon on one machine.
  class Local
    ROOT = Rails.public_path.join('system')

    def put(key, file, _content_type)
      ROOT.join(key).dirname.mkpath
      IO.copy_stream(file, ROOT.join(key).to_s)
    end

    def delete(key)
      FileUtils.rm_f(ROOT.join(key))
    end

    def url(key)
      "https://#{Rails.configuration.x.web_domain}/system/#{key}"
    end
  end
end
