# frozen_string_literal: true

# Pages of the web interface: here they are all the same one.
class HomeController < ApplicationController
  before_action -> { keep_for_visitors }
  before_action(unless: :current_user) { redirect_to request.path.delete_prefix('/deck') if request.path.start_with?('/deck/') }

  def index
    @statuses = Status.visibility_public.includes(:account, :media_attachments).order(id: :desc).limit(20)
  end
end
