# frozen_string_literal: true

class Api::V1::StatusesController < Api::BaseController
  PARTS = %w(history favourited_by).freeze

  before_action :require_token!, :require_user!, only: %i(create destroy)
  before_action :keep_unless_token, only: %i(show context part)

  def show
    render json: StatusSerializer.new(status).as_json
  end

  def context
    status
    render json: { ancestors: [], descendants: [] }
  end

  def part
    status
    render json: []
  end

  def create
    status = Status.new(
      account: current_account, text: params[:status].to_s, sensitive: ActiveModel::Type::Boolean.new.cast(params[:sensitive]) || false,
      spoiler_text: params[:spoiler_text].to_s, visibility: params[:visibility].presence || 'public',
      posted_language: params[:language].presence || 'en'
    )
    ids = Array(params[:media_ids]).map(&:to_i)
    status.media_attachments = current_account.media_attachments.where(status_id: nil, id: ids)
    return refuse('Validation failed: Media has not finished processing', 422) unless status.media_attachments.size == ids.size

    # A key that cannot be read must not wait for the queue to be noticed.
    current_account.signing_key
    status.save!
    DistributionWorker.perform_async(status.id)
    render json: StatusSerializer.new(status).as_json
  rescue ArgumentError => e
    refuse("Validation failed: #{e.message}", 422)
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

  private

  # A private post is there for its author alone.
  def status
    found = Status.find(params[:id])
    raise ActiveRecord::RecordNotFound unless found.visibility_public? || found.visibility_unlisted? || found.account_id == current_user&.account_id

    found
  end
end
