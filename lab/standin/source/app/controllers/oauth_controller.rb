# frozen_string_literal: true

# How an application gets a token: a person signs in and agrees, and the application trades the code for the token.
class OauthController < ApplicationController
  CODE = %i(client_id redirect_uri response_type scope state).freeze
  IN_BROWSER = 'urn:ietf:wg:oauth:2.0:oob'

  skip_forgery_protection only: %i(token revoke)
  before_action :require_sign_in, only: %i(authorize native applications)

  def authorize
    return failure(400) if params[:client_id].blank?

    @application = OauthApplication.find_by(uid: params[:client_id]) || (return failure(401))
    failure(401) unless @application.redirect_uri.split("\n").include?(params[:redirect_uri])
  end

  def agree
    return require_sign_in unless current_user

    application = OauthApplication.find_by!(uid: params[:client_id])
    code = SecureRandom.urlsafe_base64(32)
    redis { |each| each.set("oauth:#{code}", { application: application.id, user: current_user.id, scopes: params[:scope], uri: params[:redirect_uri] }.to_json, ex: 600) }
    redirect_to return_address(code: code), allow_other_host: true
  end

  def decline
    redirect_to return_address(error: 'access_denied'), allow_other_host: true
  end

  def native; end

  def applications; end

  def administration
    raise Forbidden
  end

  def token
    response.cache_control.replace(no_store: true)
    return refuse('invalid_request', 'Missing required parameter: grant_type.', 400) if params[:grant_type].blank?
    return refuse('unsupported_grant_type', 'The authorization grant type is not supported by the authorization server.', 400) unless %w(authorization_code client_credentials).include?(params[:grant_type])
    return refuse('invalid_request', 'Missing required parameter: client_id.', 400) if client[:id].blank?

    application = OauthApplication.find_by(uid: client[:id], secret: client[:secret])
    return refuse('invalid_client', 'Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method.', 401) if application.nil?

    params[:grant_type] == 'authorization_code' ? trade_code(application) : grant(application)
  end

  def revoke
    response.cache_control.replace(no_cache: true)
    application = OauthApplication.find_by(uid: client[:id], secret: client[:secret])
    return refuse('unauthorized_client', 'You are not authorized to revoke this token', 403) if application.nil?

    application.access_tokens.where(token: params[:token]).update_all(revoked_at: Time.now.utc)
    render json: {}
  end

  def token_info
    token = OauthAccessToken.find_by(token: request.authorization.to_s.delete_prefix('Bearer '), revoked_at: nil)
    response.cache_control.replace(token ? {} : { no_store: true })
    return refuse('invalid_request', 'The access token is invalid', 401) if token.nil?

    render json: { resource_owner_id: token.resource_owner_id, scope: token.scopes.split, expires_in: nil, created_at: token.created_at.to_i }
  end

  private

  def require_sign_in
    super
    response.cache_control.replace(private: true, no_store: true)
  end

  def client
    id, secret = ActionController::HttpAuthentication::Basic.has_basic_credentials?(request) ? ActionController::HttpAuthentication::Basic.user_name_and_password(request) : params.values_at(:client_id, :client_secret)
    { id: id, secret: secret }
  end

  # An application without an address has its code shown by a page.
  def return_address(**answer)
    return oauth_native_path(**answer) if params[:redirect_uri] == IN_BROWSER

    "#{params[:redirect_uri]}?#{{ **answer, state: params[:state] }.compact.to_query}"
  end

  # A code is good once.
  def trade_code(application)
    known = redis { |each| each.getdel("oauth:#{params[:code]}") }
    known &&= JSON.parse(known)
    return refuse('invalid_grant', 'The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.', 400) if known.nil? || known['application'] != application.id || known['uri'] != params[:redirect_uri]

    grant(application, User.find(known['user']), known['scopes'])
  end

  def grant(application, user = nil, scopes = params[:scope])
    token = application.access_tokens.create!(resource_owner: user, scopes: scopes.presence || 'read')
    render json: { access_token: token.token, token_type: 'Bearer', scope: token.scopes, created_at: token.created_at.to_i }
  end

  def refuse(error, description, status)
    render json: { error: error, error_description: description }, status: status
  end

  def redis(&)
    Rails.application.redis_config.pool.with(&)
  end
end
