# frozen_string_literal: true

module Mastodon
  module CLI
    # One JSON document each, for tests.
    class Standin < Base
      option :queue
      option :status_id, type: :numeric
      option :limit, type: :numeric, default: 100
      desc 'job-runs', 'Which process ran which background job, latest first'
      def job_runs
        runs = JobRun.order(id: :desc).limit(options[:limit])
        runs = runs.where(queue: options[:queue]) if options[:queue]
        runs = runs.where(status_id: options[:status_id]) if options[:status_id]
        say(runs.map { |run| run.slice(:queue, :job, :hostname, :pid, :origin, :status_id, :created_at) }.to_json)
      end

      desc 'schedulers', 'Which processes have scheduled jobs, and when last'
      def schedulers
        say(Rails.application.redis_config.pool.with { |redis| redis.hgetall(Scheduler::HeartbeatScheduler::KEY) }.to_json)
      end

      desc 'sign-ins USERNAME', 'From where a user has signed in, latest first'
      def sign_ins(username)
        say(find_user(username).login_activities.order(id: :desc).limit(20).map { |activity| { ip: activity.ip.to_s, user_agent: activity.user_agent, at: activity.created_at } }.to_json)
      end
    end
  end
end
