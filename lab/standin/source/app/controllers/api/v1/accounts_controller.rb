# frozen_string_literal: true

class Api::V1::AccountsController < Api::BaseController
  before_action :require_user!, only: :verify_credentials

  def verify_credentials
    render json: AccountSerializer.new(current_account).as_json.merge(
      source: { privacy: 'public', sensitive: false, language: nil, note: '', fields: [] },
      role: current_user.role && { id: current_user.role.id.to_s, name: current_user.role.name, permissions: current_user.role.permissions.to_s }
    )
  end

  def lookup
    render json: AccountSerializer.new(Account.find_local(params[:acct].to_s.delete_prefix('@')) || raise(ActiveRecord::RecordNotFound)).as_json
  end
end
