# frozen_string_literal: true

class Api::V1::TimelinesController < Api::BaseController
  before_action :require_token!, :require_user!, only: :home
  before_action :keep_unless_token, only: %i(public tag)

  def public
    render_statuses(Status.visibility_public)
  end

  def tag
    render_statuses(Status.visibility_public.where('text ILIKE ?', "%##{params[:id]}%"))
  end

  def home
    render_statuses(current_account.statuses)
  end

  private

  def render_statuses(scope)
    scope = scope.where(id: ...params[:max_id].to_i) if params[:max_id].present?
    scope = scope.where('statuses.id > ?', params[:since_id].to_i) if params[:since_id].present?
    limit = (params[:limit].presence || 20).to_i.clamp(1, 40)
    render json: scope.includes(:account, :media_attachments).order(id: :desc).limit(limit).map { |status| StatusSerializer.new(status).as_json }
  end
end
