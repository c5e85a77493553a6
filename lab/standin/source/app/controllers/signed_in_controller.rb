# frozen_string_literal: true

# Pages for who has signed in, without what they show.
class SignedInController < ApplicationController
  before_action :require_sign_in, except: %i(staff form)

  def page; end

  def csv
    render body: '', content_type: 'text/csv'
  end

  def elsewhere
    redirect_to root_path
  end

  # For what is done with a form of one's own, or not at all.
  def form
    redirect_to params[:place]
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
