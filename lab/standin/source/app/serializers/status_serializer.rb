# frozen_string_literal: true

StatusSerializer = Struct.new(:status) do
  def as_json(*)
    {
      id: status.id.to_s, created_at: status.created_at.utc.iso8601(3), sensitive: status.sensitive, spoiler_text: status.spoiler_text,
      visibility: status.visibility, language: status.posted_language, uri: "#{status.account.actor_uri}/statuses/#{status.id}", url: status.url,
      content: "<p>#{ERB::Util.html_escape(status.text)}</p>", account: AccountSerializer.new(status.account).as_json,
      media_attachments: status.media_attachments.order(:id).map { |media| MediaSerializer.new(media).as_json }
    }
  end
end
