# frozen_string_literal: true

class Api::V1::InstancesController < Api::BaseController
  before_action :keep_for_all

  def show
    render json: {
      uri: Rails.configuration.x.local_domain, title: Setting['site_title'], version: Mastodon::Version.to_s,
      urls: { streaming_api: Rails.configuration.x.streaming_api_base_url }, registrations: Setting['registrations_mode'] != 'none'
    }
  end
end
