# frozen_string_literal: true

# The key pair with which a local actor signs what it sends: in `keypairs`, encrypted. Until the post-deployment
# migrations have run, older accounts have theirs in `accounts`.
module AccountKeys
  extend ActiveSupport::Concern

  included do
    self.ignored_columns += %w(private_key)
    has_one :keypair, dependent: :delete, autosave: true
    before_create :generate_keys, if: :local?
  end

  def generate_keys
    pair = OpenSSL::PKey::RSA.new(2048)
    self.public_key = pair.public_key.to_pem
    (keypair || build_keypair).assign_attributes(public_key: public_key, private_key: pair.to_pem)
  end

  def signing_key
    OpenSSL::PKey::RSA.new(keypair ? keypair.private_key : self.class.where(id: id).pick(Arel.sql('private_key')))
  end

  def sign(text)
    Base64.strict_encode64(signing_key.sign(OpenSSL::Digest.new('SHA256'), text))
  end
end
