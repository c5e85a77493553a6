# frozen_string_literal: true

# What the lab's tests look at and Mastodon does not tell: who ran which job, and what a proxy passed on.
class Api::V1::StandinController < Api::BaseController
  before_action :require_token!, :require_user!, only: :session_details

  def session_details
    render json: {
      remote_ip: request.remote_ip, protocol: request.protocol.delete_suffix('://'), host: request.host, process: "#{Socket.gethostname}:#{Process.pid}",
      sign_ins: current_user.login_activities.order(id: :desc).limit(10).map { |activity| { ip: activity.ip.to_s, at: activity.created_at.iso8601 } }
    }
  end

  def job_runs
    runs = JobRun.order(id: :desc)
    runs = runs.where(status_id: params[:status_id]) if params[:status_id].present?
    runs = runs.where(queue: params[:queue]) if params[:queue].present?
    render json: runs.limit(100).map { |run| run.slice(:queue, :job, :hostname, :pid, :origin, :created_at).merge(status_id: run.status_id&.to_s) }
  end

  def schedulers
    seen = Rails.application.redis_config.pool.with { |redis| redis.hgetall(Scheduler::HeartbeatScheduler::KEY) }
    render json: seen.map { |origin, at| { origin: origin, last_seen: at } }
  end
end
