# frozen_string_literal: true

class ConfirmationsController < ApplicationController
  def show
    user = User.find_by(confirmation_token: params[:confirmation_token].presence || raise(ActionController::BadRequest))
    return render(plain: 'Confirmation token is invalid', status: 422) if user.nil?

    user.confirm!
    redirect_to auth_sign_in_path
  end
end
