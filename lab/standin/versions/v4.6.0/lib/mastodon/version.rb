# frozen_string_literal: true

module Mastodon
  module Version
    # The first of its own migrations stands for Mastodon 4.2's last.
    OLDEST_SCHEMA = 2025_09_01_100000

    module_function

    def to_s
      '4.6.0'
    end
  end
end
