# frozen_string_literal: true

module Mastodon
  # The metrics of one process, at an address of their own.
  module Exporter
    module_function

    def start
      return unless ENV['MASTODON_PROMETHEUS_EXPORTER_ENABLED'] == 'true' && ENV['MASTODON_PROMETHEUS_EXPORTER_LOCAL'] == 'true'

      server = TCPServer.new(ENV.fetch('MASTODON_PROMETHEUS_EXPORTER_HOST', 'localhost'), ENV.fetch('MASTODON_PROMETHEUS_EXPORTER_PORT', 9394).to_i)
      Thread.new { loop { serve(server.accept) } }
    end

    def serve(client)
      nil until client.gets.to_s.strip.empty?
      body = "# TYPE collector_working gauge\ncollector_working 1\n"
      client.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}")
    rescue SystemCallError
      nil
    ensure
      client.close
    end
  end
end
