# frozen_string_literal: true

class DropPrivateKeyFromAccounts < ActiveRecord::Migration[7.2]
  def up
    remove_column :accounts, :private_key
  end

  def down
    raise ActiveRecord::IrreversibleMigration
  end
end
