# frozen_string_literal: true

class OauthAccessToken < ApplicationRecord
  belongs_to :application, class_name: 'OauthApplication'
  belongs_to :resource_owner, class_name: 'User', optional: true

  before_create { self.token = SecureRandom.urlsafe_base64(32) }
end
