# frozen_string_literal: true

%w(profile/(*any) overview overview/about).each { |path| get path, to: 'home#index' }

namespace :api, format: false do
  get 'v1/profile', to: 'listed#user'
  get 'v1/donation_campaigns', to: 'listed#user_only'
end
