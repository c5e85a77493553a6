# frozen_string_literal: true

class WellKnownController < ApplicationController
  before_action(only: %i(host_meta node_infos)) { expires_in 3.days, public: true }

  def webfinger
    expires_in 3.minutes, public: true
    account = find_account(params.require(:resource).to_s)
    expires_in 3.days, public: true
    render content_type: 'application/jrd+json', json: {
      subject: "acct:#{account.username}@#{domains.first}",
      aliases: [account.url, account.actor_uri],
      links: [
        { rel: 'http://webfinger.net/rel/profile-page', type: 'text/html', href: account.url },
        { rel: 'self', type: 'application/activity+json', href: account.actor_uri },
      ],
    }
  rescue ActiveRecord::RecordNotFound
    head 404
  rescue ActionController::ParameterMissing
    head 400
  end

  def host_meta
    template = "https://#{domains.last}/.well-known/webfinger?resource={uri}"
    respond_to do |format|
      format.json { render json: { links: [{ rel: 'lrdd', template: template }] } }
      format.any { render content_type: 'application/xrd+xml', body: <<~XML }
        <?xml version="1.0" encoding="UTF-8"?>
        <XRD xmlns="http://docs.oasis-open.org/ns/xri/xrd-1.0"><Link rel="lrdd" template="#{template}"/></XRD>
      XML
    end
  end

  def node_infos
    render json: { links: [{ rel: 'http://nodeinfo.diaspora.software/ns/schema/2.0', href: "https://#{domains.last}/nodeinfo/2.0" }] }
  end

  def node_info
    expires_in 30.minutes, public: true
    render json: { version: '2.0', software: { name: 'mastodon', version: Mastodon::Version.to_s }, protocols: ['activitypub'], openRegistrations: Setting['registrations_mode'] == 'open' }
  end

  def oauth
    response.cache_control.clear
    issuer = "https://#{domains.last}"
    render json: { issuer: "#{issuer}/", authorization_endpoint: "#{issuer}/oauth/authorize", token_endpoint: "#{issuer}/oauth/token", grant_types_supported: %w(authorization_code client_credentials) }
  end

  # The account that the instance itself acts as.
  def actor
    expires_in 10.minutes, public: true
    render content_type: 'application/activity+json', json: { '@context': 'https://www.w3.org/ns/activitystreams', id: "https://#{domains.last}/actor", type: 'Application', preferredUsername: domains.first }
  end

  private

  def domains
    [Rails.configuration.x.local_domain, Rails.configuration.x.web_domain]
  end

  # `acct:alice@domain`, or the address of the account's page or actor.
  def find_account(resource)
    name = resource[%r{\Ahttps://[^/]+/(?:@|users/)([^/]+)\z}, 1]
    name, domain = name ? [name, domains.first] : resource.delete_prefix('acct:').split('@', 2)
    raise ActionController::ParameterMissing, :resource if domain.nil?
    return Account.new(id: -99, username: domains.first) if name == domains.first

    (Account.find_local(name) if domains.include?(domain.downcase)) || raise(ActiveRecord::RecordNotFound)
  end
end
