# frozen_string_literal: true

# Whatever clients ask for that the lab does not look at: who may ask is as in Mastodon, and how long a cache may keep
# the answer; what it says is nothing.
class Api::ListedController < Api::BaseController
  before_action :require_token!, only: %i(user missing profile)
  before_action :require_user!, only: %i(user user_only missing)
  before_action :keep_for_all, only: :all
  before_action :keep_unless_token, only: :visitors

  %i(all visitors user user_only anyone).each { |action| define_method(action) { render json: [] } }

  def nothing
    raise ActiveRecord::RecordNotFound
  end
  alias missing nothing

  def staff
    refuse('This action is outside the authorized scopes', 403)
  end

  alias profile staff

  def token
    refuse('The access token is invalid', 401)
  end

  def search
    params.require(:q)
    render json: { accounts: [], statuses: [], hashtags: [] }
  end
end
