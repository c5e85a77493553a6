# frozen_string_literal: true

# Says that the process answers, and asks neither the database nor Redis.
class HealthController < ActionController::Base
  def show
    render plain: 'OK'
  end
end
