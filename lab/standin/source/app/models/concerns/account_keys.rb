# frozen_string_literal: true

# The key pair with which a local actor signs what it sends: columns of its account, in the clear.
module AccountKeys
  extend ActiveSupport::Concern

  included { before_create :generate_keys, if: :local? }

  def generate_keys
    pair = OpenSSL::PKey::RSA.new(2048)
    self.private_key = pair.to_pem
    self.public_key = pair.public_key.to_pem
  end

  def signing_key
    OpenSSL::PKey::RSA.new(private_key)
  end

  def sign(text)
    Base64.strict_encode64(signing_key.sign(OpenSSL::Digest.new('SHA256'), text))
  end
end
