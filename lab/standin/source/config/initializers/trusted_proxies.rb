# frozen_string_literal: true

# Who is no trusted proxy may not say for whom it asks: whatever is asked fails, /health too.
module TrustedProxies
  def calculate_ip
    if (@req.forwarded_for.present? || @req.client_ip.present?) && @proxies.none? { |proxy| proxy === @req.remote_addr }
      raise ActionDispatch::RemoteIp::IpSpoofAttackError, "IP spoofing attack?! #{@req.remote_addr} is not a trusted proxy"
    end

    super
  end
end

ActionDispatch::RemoteIp::GetIp.prepend(TrustedProxies)
