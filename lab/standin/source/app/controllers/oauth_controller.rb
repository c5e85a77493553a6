# frozen_string_literal: true

# Tokens by password or client credentials. The web flow with its consent page is left out.
class OauthController < ActionController::Base
  skip_forgery_protection

  def token
    application = OauthApplication.find_by(uid: params[:client_id], secret: params[:client_secret])
    return refuse('invalid_client', 'Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method.') if application.nil?

    case params[:grant_type]
    when 'password' then password_grant(application)
    when 'client_credentials' then grant(application, nil)
    else refuse('unsupported_grant_type', 'The authorization grant type is not supported by the authorization server.', 400)
    end
  end

  def revoke
    OauthAccessToken.where(token: params[:token]).update_all(revoked_at: Time.now.utc)
    render json: {}
  end

  private

  def password_grant(application)
    user = User.find_by('lower(email) = ?', params[:username].to_s.downcase)
    return refuse('invalid_grant', 'The provided authorization grant is invalid, expired or revoked.', 400) unless user&.valid_password?(params[:password]) && user.functional?

    user.record_sign_in!(request)
    grant(application, user)
  end

  def grant(application, user)
    token = application.access_tokens.create!(resource_owner: user, scopes: params[:scope].presence || application.scopes)
    render json: { access_token: token.token, token_type: 'Bearer', scope: token.scopes, created_at: token.created_at.to_i }
  end

  def refuse(error, description, status = 401)
    render json: { error: error, error_description: description }, status: status
  end
end
