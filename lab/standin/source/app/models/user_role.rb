# frozen_string_literal: true

class UserRole < ApplicationRecord
  has_many :users, foreign_key: :role_id, inverse_of: :role, dependent: :nullify
end
