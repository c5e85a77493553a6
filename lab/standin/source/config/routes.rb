# frozen_string_literal: true

# What the lab looks at has a controller of its own; for the rest, whose answers say nothing here, the lists below tell
# who may ask. tests/mastodon holds both to what Mastodon answers.
Rails.application.routes.draw do
  root 'home#index'

  get 'health', to: 'health#show'

  # -- what other servers ask --------------------------------------------------------------------------
  scope '.well-known', controller: 'well_known' do
    get 'webfinger', action: :webfinger
    get 'host-meta', action: :host_meta
    get 'nodeinfo', action: :node_infos
    get 'oauth-authorization-server', action: :oauth
    get 'change-password', to: redirect('/auth/edit')
    get 'proxy', to: redirect { |_, request| "/authorize_interaction?#{request.params.to_query}" }
  end
  get 'nodeinfo/2.0', to: 'well_known#node_info'
  get 'actor', to: 'well_known#actor'
  get 'actor/outbox', to: 'api/listed#nothing'
  post 'actor/inbox', to: 'inboxes#create'
  post 'inbox', to: 'inboxes#create'

  constraints(->(request) { request.format.nil? || request.format.html? }) do
    get 'users/:username', to: redirect('/@%{username}')
    get 'users/:username/followers', to: redirect('/@%{username}/followers')
    get 'users/:username/following', to: redirect('/@%{username}/following')
    get 'users/:username/statuses/:id', to: redirect('/@%{username}/%{id}')
  end
  { 'users/:username' => {}, 'ap/users/:account_id' => { account_id: /\d+/ } }.each do |path, constraints|
    scope path, controller: 'accounts', constraints: constraints do
      get '', action: :show
      get 'followers', action: :follows
      get 'following', action: :follows
      get 'outbox', action: :collection
      get 'collections/:id', action: :collection, constraints: { id: /featured|tags/ }
      get 'followers_synchronization', to: 'inboxes#refuse'
      post 'inbox', to: 'inboxes#create'
      get 'statuses/:id', action: :status
      get 'statuses/:id/activity', action: :activity
      %w(replies likes shares).each { |name| get "statuses/:id/#{name}", action: :reactions }
    end
  end

  # -- pages -------------------------------------------------------------------------------------------
  constraints(username: %r{[^@/.]+}) do
    get '@:username', to: 'accounts#show', as: :short_account
    %w(featured with_replies media tagged/:tag).each { |name| get "@:username/#{name}", to: 'accounts#show' }
    get '@:username/followers', to: 'accounts#follows'
    get '@:username/following', to: 'accounts#follows'
    get '@:username/:id', to: 'accounts#status', as: :short_account_status
    get '@:username/:id/embed', to: 'accounts#embed'
  end
  get '@:elsewhere/(*any)', to: 'home#index', constraints: { elsewhere: %r{([^/])+?} }, format: false
  get ':encoded', to: redirect { |found, _| "/#{found[:encoded].gsub('%40', '@')}" }, constraints: { encoded: /%40.*/ }
  get 'tags/:id', to: 'accounts#tag'

  %w(
    about privacy-policy terms-of-service explore/(*any) public public/local public/remote home getting-started directory
    search notifications/(*any) publish lists/(*any) favourites bookmarks conversations deck/(*any) keyboard-shortcuts pinned
    blocks mutes domain_blocks follow_requests followed_tags start/(*any) links/(*any) statuses/(*any)
  ).each { |path| get path, to: 'home#index' }
  draw(:series)
  get 'about/more', to: redirect('/about')
  get 'terms', to: redirect('/terms-of-service')
  get 'web/(*any)', to: redirect('/%{any}', status: 302), defaults: { any: '' }, format: false

  get 'manifest', to: 'files#manifest'
  get 'custom.css', to: 'files#custom_css'
  get 'remote_interaction_helper', to: 'files#interaction_helper'
  get 'intent', to: 'files#intent'

  # -- signing in --------------------------------------------------------------------------------------
  scope 'auth', format: false do
    get 'sign_in', to: 'sessions#new', as: :auth_sign_in
    post 'sign_in', to: 'sessions#create'
    delete 'sign_out', to: 'sessions#destroy'
    get 'confirmation', to: 'confirmations#show', as: :auth_confirmation
    get 'confirmation/new', to: 'confirmations#show'
    get 'password/new', to: 'confirmations#show'
    get 'sign_up', to: 'signed_in#form', place: '/auth/sign_in'
    get 'password/edit', to: 'signed_in#form', place: '/auth/sign_in'
    get 'cancel', to: 'signed_in#form', place: '/auth/sign_up'
    get 'sessions/security_key_options', to: 'api/listed#token'
    get 'edit', to: 'signed_in#page'
    get 'setup', to: 'signed_in#elsewhere'
    post '', to: 'signed_in#page'
  end

  scope 'oauth', controller: 'oauth' do
    get 'authorize', action: :authorize, as: :oauth_authorize
    post 'authorize', action: :agree
    delete 'authorize', action: :decline
    get 'authorize/native', action: :native, as: :oauth_native
    get 'authorized_applications', action: :applications
    get 'applications', action: :administration
    post 'token', action: :token
    get 'token/info', action: :token_info
    post 'revoke', action: :revoke
    get 'userinfo', to: 'api/listed#profile'
  end

  scope controller: 'signed_in' do
    get 'settings', to: redirect('/settings/profile')
    get 'settings/preferences', to: redirect('/settings/preferences/appearance')
    get 'settings/exports/follows', action: :csv, constraints: { format: :csv }
    %w(
      settings/profile settings/preferences/appearance settings/export settings/applications filters invites relationships
      statuses_cleanup disputes/strikes severed_relationships share
    ).each { |path| get path, action: :page }
    get 'authorize_interaction', action: :nothing
    get 'authorize_follow', to: redirect { |_, request| "/authorize_interaction?#{request.params.to_query}" }
    get 'backups/:id/download', action: :nothing
    get 'sidekiq', action: :devops
    get 'pghero', action: :devops
    get 'admin', to: redirect('/admin/dashboard', status: 302)
    get 'admin/settings', to: redirect('/admin/settings/branding')
    %w(dashboard accounts settings/branding).each { |path| get "admin/#{path}", action: :staff }
  end
  get 'invite/:code', to: 'api/listed#nothing', constraints: ->(request) { request.format.json? }
  get 'invite/:code', to: 'signed_in#form', place: '/auth/sign_in'

  # -- the API -----------------------------------------------------------------------------------------
  namespace :api, format: false do
    get 'oembed', to: '/files#oembed'
    get 'v1/streaming/(*any)', to: '/files#streaming'

    namespace :v1 do
      post 'apps', to: 'apps#create'
      get 'apps/verify_credentials', to: 'apps#show'
      get 'accounts/verify_credentials', to: 'accounts#verify_credentials'
      get 'accounts/lookup', to: 'accounts#lookup'
      get 'accounts/:id', to: 'accounts#show', constraints: { id: /\d+/ }
      get 'accounts/:id/statuses', to: 'accounts#statuses'
      get 'accounts/:id/followers', to: 'accounts#followers'
      get 'instance', to: 'instances#show'
      get 'timelines/public', to: 'timelines#public'
      get 'timelines/tag/:id', to: 'timelines#tag'
      get 'timelines/home', to: 'timelines#home'
      get 'media/:id', to: 'media#show'
      post 'media', to: 'media#create'
      resources :statuses, only: %i(create show destroy)
      get 'statuses/:id/context', to: 'statuses#context'
      get 'statuses/:id/:part', to: 'statuses#part', constraints: { part: /history|favourited_by/ }

      # Not Mastodon's: what the lab's tests look at.
      get 'standin/session', to: 'standin#session_details'
      get 'standin/job_runs', to: 'standin#job_runs'
      get 'standin/schedulers', to: 'standin#schedulers'
    end

    namespace :v2 do
      post 'media', to: 'media#create'
      get 'instance', to: 'instances#show'
      get 'search', to: '/api/listed#search'
    end

    scope controller: 'listed' do
      %w(peers activity rules extended_description privacy_policy languages translation_languages).each { |path| get "v1/instance/#{path}", action: :all }
      get 'v1/custom_emojis', action: :all
      %w(directory trends trends/tags trends/links trends/statuses tags/:id).each { |path| get "v1/#{path}", action: :visitors }
      %w(statuses accounts).each { |path| get "v1/#{path}", action: :anyone }
      %w(instance/terms_of_service timelines/link polls/:id).each { |path| get "v1/#{path}", action: :nothing }
      get 'v1/announcements', action: :user_only
      get 'v1/admin/accounts', action: :staff
      %w(
        accounts/search accounts/relationships accounts/:id/lists notifications preferences markers bookmarks favourites blocks
        mutes lists conversations filters follow_requests followed_tags featured_tags scheduled_statuses suggestions
        domain_blocks push/subscription annual_reports statuses/:id/source
      ).each { |path| get "v1/#{path}", action: :user }
      %w(notifications filters).each { |path| get "v2/#{path}", action: :user }
      get 'v1/timelines/list/:id', action: :missing
      %w(accounts accounts/:id/follow statuses/:id/favourite).each { |path| post "v1/#{path}", action: :user }
      patch 'v1/accounts/update_credentials', action: :user
      put 'v1/statuses/:id', action: :user
      put 'web/settings', action: :user_only
    end
  end

  match '*unmatched', via: :all, to: 'application#not_found', format: false
  match '/', via: %i(post put patch delete), to: 'application#not_found', format: false
end
