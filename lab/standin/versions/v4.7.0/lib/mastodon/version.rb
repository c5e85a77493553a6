# frozen_string_literal: true

module Mastodon
  module Version
    module_function

    def to_s
      '4.7.0'
    end

    # Version of the oldest schema from which an upgrade without downtime is possible.
    def oldest_schema
      2026_05_01_100000
    end
  end
end
