# frozen_string_literal: true

persistent_timeout ENV.fetch('PERSISTENT_TIMEOUT', 20).to_i

max_threads = ENV.fetch('MAX_THREADS', 5).to_i
threads ENV.fetch('MIN_THREADS', max_threads).to_i, max_threads

if ENV['SOCKET']
  bind "unix://#{ENV['SOCKET']}"
else
  bind "tcp://#{ENV.fetch('BIND', '127.0.0.1')}:#{ENV.fetch('PORT', 3000)}"
end

environment ENV.fetch('RAILS_ENV', 'development')
workers ENV.fetch('WEB_CONCURRENCY', 2).to_i

preload_app!

# As in Mastodon: without workers there is nothing to fork, and no exporter.
before_fork { Mastodon::Exporter.start } if ENV['MASTODON_PROMETHEUS_EXPORTER_ENABLED'] == 'true'
plugin :tmp_restart

set_remote_address(proxy_protocol: :v1) if ENV['PROXY_PROTO_V1'] == 'true'
