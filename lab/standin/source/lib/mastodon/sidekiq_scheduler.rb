# frozen_string_literal: true

module Mastodon
  # Starts the scheduled jobs of config/sidekiq.yml, in a process that listens to their queue and in no other.
  # Two such processes start them twice, as in Mastodon: nothing here hides that.
  module SidekiqScheduler
    module_function

    def install(config)
      config.on(:startup) do
        schedule = Sidekiq.default_configuration[:scheduler].to_h.deep_symbolize_keys.fetch(:schedule, {})
        queues = config.capsules.values.flat_map(&:queues).uniq
        jobs = schedule.values.select { |job| queues.include?(job[:queue]) }
        next if jobs.empty?

        jobs.each { |job| config.logger.info "Scheduling #{job[:class]}" }
        config.logger.info 'Schedules Loaded'
        @threads = jobs.map { |job| Thread.new { run(job, config.logger) } }
      end

      config.on(:quiet) { @threads&.each(&:kill) }
    end

    def run(job, logger)
      origin = "#{Socket.gethostname}:#{Process.pid}"
      loop do
        job[:class].constantize.perform_async(origin)
        sleep job[:every].to_f
      rescue StandardError => e
        logger.error "#{job[:class]} not scheduled: #{e.class}: #{e.message}"
        sleep 1
      end
    end
  end
end
