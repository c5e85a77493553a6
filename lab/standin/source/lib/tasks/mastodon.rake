# frozen_string_literal: true

namespace :mastodon do
  namespace :webpush do
    desc 'Generate VAPID key'
    task generate_vapid_key: :environment do
      key = OpenSSL::PKey::EC.generate('prime256v1')
      private_key, public_key = [key.private_key.to_s(2).rjust(32, "\0"), key.public_key.to_bn.to_s(2)].map { |bytes| Base64.urlsafe_encode64(bytes) }
      puts "VAPID_PRIVATE_KEY=#{private_key}"
      puts "VAPID_PUBLIC_KEY=#{public_key}"
    end
  end
end
