# frozen_string_literal: true

# Refuses an address whose domain nothing answers for: no MX, A or AAAA record.
class EmailMxValidator < ActiveModel::Validator
  def validate(user)
    domain = user.email.split('@', 2).last
    user.errors.add(:email, :unreachable, message: 'does not seem to be reachable') unless resolves?(domain)
  end

  private

  def resolves?(domain)
    Resolv::DNS.open do |dns|
      dns.timeouts = 5
      [Resolv::DNS::Resource::IN::MX, Resolv::DNS::Resource::IN::A, Resolv::DNS::Resource::IN::AAAA].any? do |type|
        dns.getresources(domain, type).any?
      end
    end
  rescue Resolv::ResolvError, Errno::ECONNREFUSED
    false
  end
end
