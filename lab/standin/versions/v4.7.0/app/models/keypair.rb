# frozen_string_literal: true

# An actor's keys; the private one is encrypted with ACTIVE_RECORD_ENCRYPTION_*.
class Keypair < ApplicationRecord
  belongs_to :account

  encrypts :private_key
end
