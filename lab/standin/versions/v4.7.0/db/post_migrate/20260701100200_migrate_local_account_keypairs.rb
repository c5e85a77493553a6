# frozen_string_literal: true

class MigrateLocalAccountKeypairs < ActiveRecord::Migration[7.2]
  # What the migration needs of the models, whatever these become.
  class Account < ApplicationRecord
    self.table_name = 'accounts'
  end

  class Keypair < ApplicationRecord
    self.table_name = 'keypairs'
    encrypts :private_key
  end

  disable_ddl_transaction!

  def up
    Account.reset_column_information
    Account.where(domain: nil).where.not(private_key: nil).find_each do |account|
      uri = "https://#{Rails.configuration.x.web_domain}/ap/users/#{account.id}#main-key"
      Keypair.create_with(uri: uri, public_key: account.public_key, private_key: account.private_key).find_or_create_by!(account_id: account.id)
    end
  end

  def down; end
end
