# frozen_string_literal: true

class OauthApplication < ApplicationRecord
  has_many :access_tokens, class_name: 'OauthAccessToken', foreign_key: :application_id, inverse_of: :application, dependent: :delete_all

  validates :name, :redirect_uri, presence: true

  before_create { self.uid = SecureRandom.urlsafe_base64(32) }
  before_create { self.secret = SecureRandom.urlsafe_base64(32) }
end
