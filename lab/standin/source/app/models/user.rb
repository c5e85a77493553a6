# frozen_string_literal: true

class User < ApplicationRecord
  belongs_to :account, autosave: true
  belongs_to :role, class_name: 'UserRole', optional: true
  has_many :access_tokens, class_name: 'OauthAccessToken', foreign_key: :resource_owner_id, inverse_of: :resource_owner, dependent: :delete_all
  has_many :login_activities, dependent: :delete_all

  validates :email, presence: true, format: { with: URI::MailTo::EMAIL_REGEXP }, uniqueness: { case_sensitive: false }
  validates_with EmailMxValidator, if: -> { Rails.env.production? && email_changed? && errors.empty? }

  before_create -> { self.confirmation_token = SecureRandom.urlsafe_base64(15) }, if: -> { confirmed_at.nil? }
  after_create_commit :send_confirmation_instructions, if: -> { confirmed_at.nil? }

  def password=(password)
    self.encrypted_password = BCrypt::Password.create(password)
  end

  def valid_password?(password)
    BCrypt::Password.new(encrypted_password).is_password?(password.to_s)
  end

  def confirm!
    update!(confirmed_at: Time.now.utc, confirmation_token: nil)
  end

  def functional?
    confirmed_at.present? && approved? && !disabled?
  end

  # The address is what the proxies in front pass on and TRUSTED_PROXY_IP lets count.
  def record_sign_in!(request)
    update!(current_sign_in_at: Time.now.utc, current_sign_in_ip: request.remote_ip, sign_in_count: sign_in_count + 1)
    login_activities.create!(ip: request.remote_ip, user_agent: request.user_agent.to_s)
  end

  private

  def send_confirmation_instructions
    UserMailer.confirmation_instructions(self).deliver_later
  end
end
