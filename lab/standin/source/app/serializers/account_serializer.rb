# frozen_string_literal: true

AccountSerializer = Struct.new(:account) do
  def as_json(*)
    {
      id: account.id.to_s, username: account.username, acct: account.acct, display_name: account.display_name,
      locked: false, bot: false, created_at: account.created_at.beginning_of_day.iso8601(3), note: '',
      url: account.url, uri: account.actor_uri, statuses_count: account.statuses.count, emojis: [], fields: []
    }
  end

  # As other servers know it.
  def actor
    {
      id: account.actor_uri, type: 'Person', preferredUsername: account.username, url: account.url, inbox: "#{account.actor_uri}/inbox",
      publicKey: { id: "#{account.actor_uri}#main-key", owner: account.actor_uri, publicKeyPem: account.public_key }
    }
  end
end
