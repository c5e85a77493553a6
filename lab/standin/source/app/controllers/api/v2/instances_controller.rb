# frozen_string_literal: true

class Api::V2::InstancesController < Api::BaseController
  before_action :keep_for_all

  def show
    render json: {
      domain: Rails.configuration.x.local_domain, title: Setting['site_title'], version: Mastodon::Version.to_s,
      source_url: 'https://github.com/mastodon/mastodon', languages: ['en'],
      configuration: {
        urls: { streaming: Rails.configuration.x.streaming_api_base_url },
        vapid: { public_key: ENV['VAPID_PUBLIC_KEY'] },
        statuses: { max_characters: 500, max_media_attachments: 4 },
      },
      registrations: { enabled: Setting['registrations_mode'] != 'none', approval_required: Setting['registrations_mode'] == 'approved' }
    }
  end
end
