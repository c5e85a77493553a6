# frozen_string_literal: true

class SessionsController < ApplicationController
  def new; end

  def create
    user = User.find_by('lower(email) = ?', params[:email].to_s.downcase)
    if user&.valid_password?(params[:password]) && user.functional?
      reset_session
      session[:user_id] = user.id
      user.record_sign_in!(request)
      redirect_to root_path
    else
      @error = 'Invalid E-mail address or password.'
      render :new, status: 422
    end
  end

  def destroy
    reset_session
    redirect_to auth_sign_in_path
  end
end
