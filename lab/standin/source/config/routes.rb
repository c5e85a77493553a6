# frozen_string_literal: true

Rails.application.routes.draw do
  root 'home#index'

  get 'health', to: 'health#show'
  get '.well-known/webfinger', to: 'well_known#webfinger'
  get '.well-known/host-meta', to: 'well_known#host_meta'

  get 'auth/sign_in', to: 'sessions#new'
  post 'auth/sign_in', to: 'sessions#create'
  delete 'auth/sign_out', to: 'sessions#destroy'
  get 'auth/confirmation', to: 'confirmations#show'

  post 'oauth/token', to: 'oauth#token'
  post 'oauth/revoke', to: 'oauth#revoke'

  get '@:username', to: 'home#account', as: :short_account
  get '@:username/:id', to: 'home#status', as: :short_account_status
  get 'users/:username', to: 'home#actor', as: :account

  namespace :api, defaults: { format: :json } do
    namespace :v1 do
      post 'apps', to: 'apps#create'
      get 'accounts/verify_credentials', to: 'accounts#verify_credentials'
      get 'accounts/lookup', to: 'accounts#lookup'
      get 'instance', to: 'instances#show'
      get 'timelines/public', to: 'timelines#public'
      get 'timelines/home', to: 'timelines#home'
      get 'media/:id', to: 'media#show'
      resources :statuses, only: %i(create show destroy)

      # Not Mastodon's: what the lab's tests look at.
      get 'standin/session', to: 'standin#session_details'
      get 'standin/job_runs', to: 'standin#job_runs'
      get 'standin/schedulers', to: 'standin#schedulers'
    end

    namespace :v2 do
      post 'media', to: 'media#create'
      get 'instance', to: 'instances#show'
    end
  end
end
