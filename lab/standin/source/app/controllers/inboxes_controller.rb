# frozen_string_literal: true

# There are no other servers: whatever comes is not signed by one.
class InboxesController < ApplicationController
  skip_forgery_protection

  def create
    return render(json: { error: 'Record not found' }, status: 404) if params[:username] && Account.find_local(params[:username]).nil?

    # Nor can the key be fetched that a signature names.
    request.headers['Signature'] ? render(json: { error: 'Remote data could not be fetched' }, status: 503) : refuse
  end

  def refuse
    render json: { error: 'Request not signed' }, status: 401
  end
end
