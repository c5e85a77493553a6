# frozen_string_literal: true

class ConfirmationsController < ApplicationController
  def show
    user = User.find_by(confirmation_token: params[:confirmation_token].presence || :none)
    return render(:new) if user.nil?

    user.confirm!
    redirect_to auth_sign_in_path
  end
end
