# frozen_string_literal: true

Mime::Type.unregister(:json)
Mime::Type.register 'application/json', :json, %w(text/x-json application/jsonrequest application/jrd+json application/activity+json application/ld+json)
Mime::Type.register 'application/xrd+xml', :xrd
