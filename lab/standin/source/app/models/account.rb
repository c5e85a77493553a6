# frozen_string_literal: true

# An actor: local where `domain` is empty.
class Account < ApplicationRecord
  include AccountKeys

  has_one :user, dependent: :destroy
  has_many :statuses, dependent: :destroy
  has_many :media_attachments, dependent: :destroy

  scope :local, -> { where(domain: nil) }
  scope :remote, -> { where.not(domain: nil) }

  validates :username, presence: true, format: { with: /\A[a-z0-9_]+([a-z0-9_.-]+[a-z0-9_]+)?\z/i }
  validates :username, uniqueness: { scope: :domain, case_sensitive: false }

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
    uri.presence || "https://#{Rails.configuration.x.web_domain}/ap/users/#{id}"
  end
end
