# frozen_string_literal: true

class Api::BaseController < ApplicationController
  protect_from_forgery with: :null_session

  before_action -> { response.set_header('Vary', 'Authorization, Origin') }

  rescue_from(ActiveRecord::RecordNotFound) { refuse('Record not found', 404) }
  rescue_from(ActiveRecord::RecordInvalid) { |error| refuse("Validation failed: #{error.record.errors.full_messages.join(', ')}", 422) }
  rescue_from(ActionController::ParameterMissing) { |error| refuse(error.message, 400) }

  private

  def refuse(message, status)
    response.cache_control.replace(private: true, no_store: true)
    render json: { error: message }, status: status
  end

  def current_user
    @current_user ||= access_token&.resource_owner
  end

  def current_account
    current_user.account
  end

  def access_token
    @access_token ||= OauthAccessToken.find_by(token: bearer, revoked_at: nil) if bearer
  end

  def bearer
    request.authorization.to_s[/\ABearer (.+)\z/, 1] || params[:access_token].presence
  end

  def require_token!
    refuse('The access token is invalid', 401) if access_token.nil?
  end

  def require_user!
    if current_user.nil? then refuse('This method requires an authenticated user', 422)
    elsif !current_user.confirmed_at? then refuse('Your login is missing a confirmed e-mail address', 403)
    elsif !current_user.approved? then refuse('Your login is currently pending approval', 403)
    elsif current_user.disabled? then refuse('Your login is currently disabled', 403)
    end
  end

  # The same for everyone who asks without a token.
  def keep_unless_token
    keep_for_visitors if bearer.nil?
  end

  # The same for everyone.
  def keep_for_all
    expires_in(5.minutes, public: true, stale_while_revalidate: 30.seconds, stale_if_error: 1.day)
  end
end
