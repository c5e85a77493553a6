# frozen_string_literal: true

class Api::V1::MediaController < Api::BaseController
  before_action :require_token!, :require_user!

  def show
    render json: MediaSerializer.new(current_account.media_attachments.find(params[:id])).as_json
  end

  def create
    upload = params[:file]
    return refuse("Validation failed: File can't be blank", 422) unless upload.respond_to?(:tempfile)

    media = MediaAttachment.store!(account: current_account, upload: upload, description: params[:description].presence)
    render json: MediaSerializer.new(media).as_json
  rescue ArgumentError => e
    refuse(e.message, 422)
  end
end
