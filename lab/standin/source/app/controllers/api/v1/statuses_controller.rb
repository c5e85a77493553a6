# frozen_string_literal: true

class Api::V1::StatusesController < Api::BaseController
  before_action :require_user!, except: :show

  def show
    render json: StatusSerializer.new(Status.find(params[:id])).as_json
  end

  def create
    status = Status.new(
      account: current_account, text: params[:status].to_s, sensitive: ActiveModel::Type::Boolean.new.cast(params[:sensitive]) || false,
      spoiler_text: params[:spoiler_text].to_s, visibility: params[:visibility].presence || 'public',
      posted_language: params[:language].presence || 'en'
    )
    status.media_attachments = current_account.media_attachments.where(status_id: nil).find(Array(params[:media_ids]).map(&:to_i))
    # A key that cannot be read must not wait for the queue to be noticed.
    current_account.signing_key
    status.save!
    DistributionWorker.perform_async(status.id)
    render json: StatusSerializer.new(status).as_json
  rescue ArgumentError => e
    failure("Validation failed: #{e.message}", 422)
  end

  def destroy
    status = current_account.statuses.find(params[:id])
    payload = StatusSerializer.new(status).as_json
    status.destroy!
    Rails.application.redis_config.pool.with do |redis|
      redis.publish('timeline:public', { event: 'delete', payload: status.id.to_s }.to_json)
    end
    render json: payload
  end
end
