# frozen_string_literal: true

# An actor's keys; the private one is encrypted with ACTIVE_RECORD_ENCRYPTION_*.
class Keypair < ApplicationRecord
  belongs_to :account

  encrypts :private_key

  # The account has no number before it is saved.
  before_create -> { self.uri = "#{account.actor_uri}#main-key" }
end
