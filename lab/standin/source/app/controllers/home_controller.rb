# frozen_string_literal: true

# Pages of the web interface: here they are all the same one.
class HomeController < ApplicationController
  before_action -> { keep_for_visitors }

  def index
    @statuses = Status.visibility_public.includes(:account, :media_attachments).order(id: :desc).limit(20)
    respond_to(&:html)
  end
end
