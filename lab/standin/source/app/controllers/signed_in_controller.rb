# frozen_string_literal: true

# Pages for who has signed in, without what they show.
class SignedInController < ApplicationController
  before_action :require_sign_in, except: :staff

  def page
    respond_to(&:html)
  end

  def csv
    respond_to { |format| format.csv { render body: '' } }
  end

  def elsewhere
    redirect_to root_path
  end

  # Needs what only the person's own page would bring along.
  def nothing
    raise ActiveRecord::RecordNotFound
  end

  def devops
    raise ActiveRecord::RecordNotFound unless current_user.role&.name == 'Owner'

    render :page
  end

  def staff
    raise Forbidden unless current_user&.role&.name == 'Owner'

    render :page
  end
end
