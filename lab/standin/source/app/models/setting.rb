# frozen_string_literal: true

class Setting < ApplicationRecord
  DEFAULTS = { 'registrations_mode' => 'none', 'site_title' => 'Mastodon', 'min_invite_role' => 'admin' }.freeze

  def self.[](name)
    find_by(var: name)&.value || DEFAULTS[name.to_s]
  end

  def self.[]=(name, value)
    find_or_initialize_by(var: name).update!(value: value)
  end
end
