# frozen_string_literal: true

class Api::BaseController < ActionController::API
  rescue_from(ActiveRecord::RecordNotFound) { failure('Record not found', 404) }
  rescue_from(ActiveRecord::RecordInvalid) { |error| failure("Validation failed: #{error.record.errors.full_messages.join(', ')}", 422) }

  private

  def failure(message, status)
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

  def require_user!
    return failure('The access token is invalid', 401) if access_token.nil?
    return failure('This method requires an authenticated user', 422) if current_user.nil?

    failure('Your login is currently disabled', 403) unless current_user.functional?
  end
end
