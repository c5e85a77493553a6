# frozen_string_literal: true

class HomeController < ApplicationController
  # What everyone sees may be kept by a cache in front, and then carries no cookie.
  before_action(unless: :current_user) { expires_in 15.seconds, public: true, stale_while_revalidate: 30.seconds, stale_if_error: 1.day }

  rescue_from(ActiveRecord::RecordNotFound) { render file: Rails.public_path.join('404.html'), status: 404, layout: false }

  def index
    @statuses = Status.visibility_public.includes(:account, :media_attachments).order(id: :desc).limit(20)
  end

  def account
    @account = find_account
    @statuses = @account.statuses.visibility_public.order(id: :desc).limit(20)
    render :index
  end

  def status
    @statuses = find_account.statuses.visibility_public.where(id: params[:id])
    raise ActiveRecord::RecordNotFound if @statuses.empty?

    render :index
  end

  def actor
    account = find_account
    render content_type: 'application/activity+json', json: {
      '@context': 'https://www.w3.org/ns/activitystreams', id: account.actor_uri, type: 'Person', preferredUsername: account.username, url: account.url,
      publicKey: { id: "#{account.actor_uri}#main-key", owner: account.actor_uri, publicKeyPem: account.public_key }
    }
  end

  private

  def find_account
    Account.find_local(params[:username]) or raise ActiveRecord::RecordNotFound
  end
end
