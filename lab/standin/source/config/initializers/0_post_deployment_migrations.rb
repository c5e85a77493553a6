# frozen_string_literal: true

# Migrations in db/post_migrate need every process to run the new code: the first step of an upgrade leaves them out.
# Whether the variable is there counts, not what it says.
unless ENV['SKIP_POST_DEPLOYMENT_MIGRATIONS']
  Rails.application.config.paths['db'].each do |root|
    path = Rails.root.join(root, 'post_migrate').to_s
    Rails.application.config.paths['db/migrate'] << path
    ActiveRecord::Migrator.migrations_paths << path
  end
end
