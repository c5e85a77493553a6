# frozen_string_literal: true

class ApplicationController < ActionController::Base
  helper_method :current_user, :pack_path

  before_action -> { response.set_header('Vary', 'Accept, Accept-Language, Cookie') }

  private

  def current_user
    @current_user ||= User.find_by(id: session[:user_id]) if session[:user_id]
  end

  # Address of a compiled file by its name in the sources; KeyError where assets:precompile has not run.
  def pack_path(name)
    file = self.class.manifest.fetch(name) { raise KeyError, "#{name} is not in public/packs/manifest.json: run assets:precompile" }
    "#{Rails.application.config.asset_host}/packs/#{file}"
  end

  def self.manifest
    @@manifest ||= JSON.parse(Rails.public_path.join('packs/manifest.json').read)
  end
end
