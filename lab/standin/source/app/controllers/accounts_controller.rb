# frozen_string_literal: true

# An account as a page, as a feed and as an actor of ActivityPub; its posts, and who follows whom.
class AccountsController < ApplicationController
  def show
    @statuses = account.statuses.visibility_public.order(id: :desc).limit(20)
    respond_to do |format|
      format.html { page }
      format.rss { keep_and_render_feed(account.acct) }
      format.json { render_activity(AccountSerializer.new(account).actor) }
    end
  end

  # Nobody follows anybody here.
  def follows
    account
    respond_to do |format|
      format.html { page }
      format.json { render_activity({ id: request.original_url, type: 'OrderedCollection', totalItems: 0 }, params[:page] ? 0 : 3.minutes) }
    end
  end

  def collection
    account
    render_activity({ id: request.original_url, type: 'OrderedCollection', totalItems: 0 }, params[:page] ? 1.minute : 3.minutes)
  end

  def status
    @statuses = [account.statuses.visibility_public.find(params[:id])]
    respond_to do |format|
      format.html do
        expires_in(10.seconds, public: true) unless current_user
        params[:account_id] ? redirect_to(short_account_status_path(account.username, params[:id])) : render('home/index')
      end
      format.json { render_activity(StatusSerializer.new(@statuses.first).as_json) }
    end
  end

  def embed
    @statuses = [account.statuses.visibility_public.find(params[:id])]
    expires_in 3.minutes, public: true
    render 'home/index', formats: [:html]
  end

  def activity
    status = account.statuses.visibility_public.find(params[:id])
    render_activity(StatusSerializer.new(status).as_json, 3.minutes)
  end

  def reactions
    account.statuses.visibility_public.find(params[:id])
    render_activity({ id: request.original_url, type: 'Collection', totalItems: 0 }, 0)
  end

  def tag
    @statuses = Status.visibility_public.where('text ILIKE ?', "%##{params[:id]}%").order(id: :desc).limit(20)
    raise ActiveRecord::RecordNotFound if @statuses.empty?

    respond_to do |format|
      format.html { page }
      format.rss { keep_and_render_feed("##{params[:id]}", 0) }
      format.json { render_activity({ id: request.original_url, type: 'OrderedCollection', totalItems: @statuses.size }) }
    end
  end

  private

  def account
    @account ||= (params[:account_id] ? Account.local.find(params[:account_id]) : Account.find_local(params[:username])) || raise(ActiveRecord::RecordNotFound)
  end

  def page
    keep_for_visitors(if_error: 1.hour)
    return redirect_to(short_account_path(account.username)) if params[:account_id]

    @statuses ||= Status.none
    render 'home/index'
  end

  def render_activity(json, kept = 3.minutes)
    expires_in kept, public: true
    render content_type: 'application/activity+json', json: { '@context': 'https://www.w3.org/ns/activitystreams', **json }
  end

  def keep_and_render_feed(title, kept = 1.minute)
    expires_in kept, public: true
    items = @statuses.map { |status| "<item><guid>#{status.url}</guid><description>#{ERB::Util.html_escape(status.text)}</description></item>" }
    render content_type: 'application/rss+xml', body: %(<?xml version="1.0"?><rss version="2.0"><channel><title>#{title}</title>#{items.join}</channel></rss>)
  end
end
