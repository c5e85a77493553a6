# frozen_string_literal: true

class SessionsController < ApplicationController
  rescue_from(ActionController::ParameterMissing) do
    response.cache_control.replace(no_cache: true)
    failure(400)
  end

  skip_forgery_protection only: :destroy

  # What is missing is seen before what is forged.
  prepend_before_action(only: :create) { params.require(:user) }

  def new
    back if current_user
  end

  def create
    user = User.find_by('lower(email) = ?', params[:user][:email].to_s.downcase)
    if user&.valid_password?(params[:user][:password]) && user.confirmed_at?
      return_to = session[:return_to]
      reset_session
      session[:user_id] = user.id
      cookies.signed['_session_id'] = { value: SecureRandom.hex, expires: 1.year, httponly: true, same_site: :lax, secure: true }
      user.record_sign_in!(request)
      redirect_to return_to || root_path
    else
      @error = 'Invalid e-mail address or password.'
      render :new
    end
  end

  def destroy
    reset_session
    back(auth_sign_in_path)
  end

  private

  def back(path = root_path)
    response.cache_control.replace(no_cache: true)
    redirect_to path
  end
end
