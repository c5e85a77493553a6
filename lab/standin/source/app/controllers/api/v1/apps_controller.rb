# frozen_string_literal: true

class Api::V1::AppsController < Api::BaseController
  before_action :require_token!, only: :show

  def create
    application = OauthApplication.create!(
      name: params[:client_name], redirect_uri: Array(params[:redirect_uris]).join("\n"),
      scopes: params[:scopes].presence || 'read', website: params[:website]
    )
    render json: details(application).merge(client_id: application.uid, client_secret: application.secret)
  end

  def show
    render json: details(access_token.application)
  end

  private

  def details(application)
    {
      id: application.id.to_s, name: application.name, website: application.website, scopes: application.scopes.split,
      redirect_uri: application.redirect_uri, redirect_uris: application.redirect_uri.split("\n")
    }
  end
end
