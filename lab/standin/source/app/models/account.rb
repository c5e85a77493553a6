# frozen_string_literal: true

# An actor: local where `domain` is empty. Holds its own key pair, in the clear.
class Account < ApplicationRecord
  has_one :user, dependent: :destroy
  has_many :statuses, dependent: :destroy
  has_many :media_attachments, dependent: :destroy

  scope :local, -> { where(domain: nil) }
  scope :remote, -> { where.not(domain: nil) }

  validates :username, presence: true, format: { with: /\A[a-z0-9_]+([a-z0-9_.-]+[a-z0-9_]+)?\z/i }
  validates :username, uniqueness: { scope: :domain, case_sensitive: false }

  before_create :generate_keys, if: :local?

  def self.find_local(username)
    local.find_by('lower(username) = ?', username.to_s.downcase)
  end

  def self.duplicate_uris
    where.not(uri: ['', nil]).group(:uri).having('count(*) > 1')
  end

  def local?
    domain.nil?
  end

  def acct
    local? ? username : "#{username}@#{domain}"
  end

  def url
    "https://#{Rails.configuration.x.web_domain}/@#{username}"
  end

  def actor_uri
    uri.presence || "https://#{Rails.configuration.x.web_domain}/users/#{username}"
  end

  def sign(text)
    Base64.strict_encode64(signing_key.sign(OpenSSL::Digest.new('SHA256'), text))
  end

  def signing_key
    OpenSSL::PKey::RSA.new(private_key)
  end

  private

  def generate_keys
    pair = OpenSSL::PKey::RSA.new(2048)
    self.private_key = pair.to_pem
    self.public_key = pair.public_key.to_pem
  end
end
