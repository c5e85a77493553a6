# frozen_string_literal: true

# A picture. The file itself goes to the object store, or below public/system where S3_ENABLED is not set.
class MediaAttachment < ApplicationRecord
  TYPES = { 'image/png' => 'png', 'image/jpeg' => 'jpg', 'image/gif' => 'gif', 'image/webp' => 'webp' }.freeze

  belongs_to :account
  belongs_to :status, optional: true

  after_destroy { MediaStorage.current.delete(file_key) }

  # Raises ArgumentError for a type that is not a picture's.
  def self.store!(account:, upload:, description: nil)
    extension = TYPES[upload.content_type] or raise ArgumentError, 'File type of uploaded media could not be verified'
    key = "media_attachments/files/#{SecureRandom.random_number(10**18).to_s.rjust(18, '0').scan(/.../).join('/')}/original/#{SecureRandom.hex(8)}.#{extension}"
    MediaStorage.current.put(key, upload.tempfile, upload.content_type)
    create!(account: account, file_key: key, file_content_type: upload.content_type, file_file_size: upload.size, description: description)
  end

  def url
    MediaStorage.current.url(file_key)
  end
end
