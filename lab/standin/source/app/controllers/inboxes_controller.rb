# frozen_string_literal: true

# There are no other servers: whatever comes is not signed by one.
class InboxesController < ApplicationController
  skip_forgery_protection

  def create
    raise ActiveRecord::RecordNotFound if params[:username] && Account.find_local(params[:username]).nil?

    refuse
  end

  def refuse
    render json: { error: 'Request not signed' }, status: 401
  end
end
