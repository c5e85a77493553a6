# frozen_string_literal: true

# What a browser takes for a file and is none.
class FilesController < ApplicationController
  def manifest
    expires_in 3.minutes, public: true
    render json: { name: Setting['site_title'], start_url: '/', display: 'standalone', icons: [] }
  end

  def custom_css
    expires_in 1.month, public: true
    render content_type: 'text/css', body: ''
  end

  def interaction_helper
    expires_in 5.minutes, public: true, stale_while_revalidate: 30.seconds, stale_if_error: 1.day
    render 'signed_in/page'
  end

  # Who asks here for streams is sent to the server that has them.
  def streaming
    redirect_to "#{Rails.configuration.x.streaming_api_base_url}#{request.path}", status: 301, allow_other_host: true
  end

  def oembed
    params.require(:url)
    render json: { type: 'rich', version: '1.0' }
  rescue ActionController::ParameterMissing
    render json: { error: 'Record not found' }, status: 404
  end

  def intent
    shared = params[:uri].to_s[%r{\Aweb\+mastodon://share\?text=(.*)\z}, 1] || (return not_found)
    redirect_to "/share?text=#{shared}"
  end
end
