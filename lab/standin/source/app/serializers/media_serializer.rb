# frozen_string_literal: true

MediaSerializer = Struct.new(:media) do
  def as_json(*)
    { id: media.id.to_s, type: 'image', url: media.url, preview_url: media.url, remote_url: nil, meta: {}, description: media.description }
  end
end
