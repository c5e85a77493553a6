# frozen_string_literal: true

class LoginActivity < ApplicationRecord
  belongs_to :user
end
