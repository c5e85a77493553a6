# frozen_string_literal: true

class ApplicationController < ActionController::Base
  class Forbidden < StandardError; end

  protect_from_forgery with: :exception
  skip_forgery_protection only: :not_found

  # Nothing is kept unless an action says so.
  before_action { response.cache_control.replace(private: true, no_store: true) }
  before_action -> { response.set_header('Vary', 'Accept, Accept-Language, Cookie') }

  rescue_from(ActionController::RoutingError, ActiveRecord::RecordNotFound) { failure(404) }
  rescue_from(ActionController::UnknownFormat) { failure(406) }
  rescue_from(ActionController::ParameterMissing) { failure(400) }
  rescue_from(ActionController::InvalidAuthenticityToken) { failure(422) }
  rescue_from(Forbidden) { failure(403) }

  helper_method :current_user, :pack_path

  def not_found
    raise ActionController::RoutingError, "No route matches #{request.path}"
  end

  private

  def failure(code, message = Rack::Utils::HTTP_STATUS_CODES[code])
    response.cache_control.replace(private: true, no_store: true) if code == 404 || code == 403
    respond_to do |format|
      format.any { render 'errors/show', locals: { message: message }, status: code, formats: [:html] }
      format.json { render json: { error: message }, status: code }
    end
  end

  def current_user
    @current_user ||= User.find_by(id: session[:user_id]) if session[:user_id]
  end

  # To the form, from which one comes back; only a page can show it.
  def require_sign_in
    return if current_user
    response.cache_control.replace(no_cache: true)
    return render(body: nil, content_type: request.format.to_s, status: 401) unless [nil, Mime::ALL, Mime[:html]].include?(request.format)

    session[:return_to] = request.fullpath if request.get?
    redirect_to auth_sign_in_path
  end

  # What everyone sees may be kept by a cache in front, and then carries no cookie.
  def keep_for_visitors(seconds = 15.seconds, if_error: 1.day)
    expires_in(seconds, public: true, stale_while_revalidate: 30.seconds, stale_if_error: if_error) unless current_user || cookies['_mastodon_session']
  end

  # Address of a compiled file by its name in the sources; KeyError where assets:precompile has not run.
  def pack_path(name)
    file = self.class.manifest.fetch(name) { raise KeyError, "#{name} is not in public/packs/.vite/manifest.json: run assets:precompile" }['file']
    "#{Rails.application.config.asset_host}/packs/#{file}"
  end

  def self.manifest
    @@manifest ||= JSON.parse(Rails.public_path.join('packs/.vite/manifest.json').read)
  end
end
