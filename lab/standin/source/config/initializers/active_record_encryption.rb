# frozen_string_literal: true

%w(
  ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY
  ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT
  ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY
).each do |name|
  value = ENV[name].presence
  value = SecureRandom.hex(64) if ENV['SECRET_KEY_BASE_DUMMY']

  if value.nil?
    abort <<~MESSAGE

      Mastodon now requires that these variables are set:

        - ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY
        - ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT
        - ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY

      #{name} is missing. Run `bin/rails db:encryption:init` to generate values, assign them on all nodes,
      and do not change them afterwards.
    MESSAGE
  end

  setting = name.delete_prefix('ACTIVE_RECORD_ENCRYPTION_').downcase
  Rails.application.config.active_record.encryption.public_send(:"#{setting}=", value)
end
