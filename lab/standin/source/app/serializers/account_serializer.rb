# frozen_string_literal: true

AccountSerializer = Struct.new(:account) do
  def as_json(*)
    {
      id: account.id.to_s, username: account.username, acct: account.acct, display_name: account.display_name,
      locked: false, bot: false, created_at: account.created_at.beginning_of_day.iso8601(3), note: '',
      url: account.url, uri: account.actor_uri, statuses_count: account.statuses.count, emojis: [], fields: []
    }
  end
end
