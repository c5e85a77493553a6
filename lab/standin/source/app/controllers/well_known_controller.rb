# frozen_string_literal: true

class WellKnownController < ActionController::Base
  def webfinger
    resource = params[:resource].to_s
    return head(400) if resource.blank?

    username, domain = resource.delete_prefix('acct:').split('@', 2)
    account = Account.find_local(username) if [Rails.configuration.x.local_domain, Rails.configuration.x.web_domain].include?(domain)
    return head(404) if account.nil?

    expires_in 3.days, public: true
    render content_type: 'application/jrd+json', json: {
      subject: "acct:#{account.username}@#{Rails.configuration.x.local_domain}",
      aliases: [account.url, account.actor_uri],
      links: [
        { rel: 'http://webfinger.net/rel/profile-page', type: 'text/html', href: account.url },
        { rel: 'self', type: 'application/activity+json', href: account.actor_uri },
      ],
    }
  end

  def host_meta
    template = "https://#{Rails.configuration.x.web_domain}/.well-known/webfinger?resource={uri}"
    render content_type: 'application/xrd+xml', body: <<~XML
      <?xml version="1.0" encoding="UTF-8"?>
      <XRD xmlns="http://docs.oasis-open.org/ns/xri/xrd-1.0"><Link rel="lrdd" template="#{template}"/></XRD>
    XML
  end
end
