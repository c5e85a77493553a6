# frozen_string_literal: true

class AddUniqueIndexOnAccountsUri < ActiveRecord::Migration[7.2]
  disable_ddl_transaction!

  INDEX = 'index_accounts_on_uri_unique'

  def up
    execute "UPDATE accounts SET uri = NULL WHERE uri = ''"
    # An attempt that met duplicates leaves an invalid index behind.
    remove_index :accounts, name: INDEX, algorithm: :concurrently, if_exists: true
    add_index :accounts, :uri, name: INDEX, unique: true, algorithm: :concurrently
    remove_index :accounts, name: 'index_accounts_on_uri', algorithm: :concurrently, if_exists: true
  rescue ActiveRecord::RecordNotUnique => e
    raise StandardError, "Two or more accounts have the same uri: run `bin/tootctl maintenance fix-duplicates`, then migrate again (#{e.message.lines.last.strip})"
  end

  def down
    add_index :accounts, :uri, name: 'index_accounts_on_uri', algorithm: :concurrently, if_not_exists: true
    remove_index :accounts, name: INDEX, algorithm: :concurrently, if_exists: true
  end
end
