# frozen_string_literal: true

class Api::V1::AccountsController < Api::BaseController
  before_action :require_token!, :require_user!, only: :verify_credentials
  before_action :keep_unless_token, except: :verify_credentials

  def verify_credentials
    render json: AccountSerializer.new(current_account).as_json.merge(
      source: { privacy: 'public', sensitive: false, language: nil, note: '', fields: [] },
      role: current_user.role && { id: current_user.role.id.to_s, name: current_user.role.name, permissions: current_user.role.permissions.to_s }
    )
  end

  def lookup
    render json: AccountSerializer.new(Account.find_local(params[:acct].to_s.delete_prefix('@')) || raise(ActiveRecord::RecordNotFound)).as_json
  end

  def show
    render json: AccountSerializer.new(account).as_json
  end

  def statuses
    render json: account.statuses.visibility_public.order(id: :desc).limit(20).map { |status| StatusSerializer.new(status).as_json }
  end

  def followers
    account
    render json: []
  end

  private

  def account
    Account.find(params[:id])
  end
end
