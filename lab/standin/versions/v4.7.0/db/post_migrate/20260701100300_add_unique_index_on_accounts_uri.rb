# frozen_string_literal: true

class AddUniqueIndexOnAccountsUri < ActiveRecord::Migration[7.2]
  disable_ddl_transaction!

  INDEX = 'index_accounts_on_uri_unique'

  def up
    execute "UPDATE accounts SET uri = NULL WHERE uri = ''"
    merge_duplicates
    # An attempt that was broken off leaves an invalid index behind.
    remove_index :accounts, name: INDEX, algorithm: :concurrently, if_exists: true
    add_index :accounts, :uri, name: INDEX, unique: true, algorithm: :concurrently
    remove_index :accounts, name: 'index_accounts_on_uri', algorithm: :concurrently, if_exists: true
  end

  def down
    add_index :accounts, :uri, name: 'index_accounts_on_uri', algorithm: :concurrently, if_not_exists: true
    remove_index :accounts, name: INDEX, algorithm: :concurrently, if_exists: true
  end

  private

  # The newest of the accounts of one address stays, and gets the others' posts.
  def merge_duplicates
    newest = 'SELECT id, max(id) OVER (PARTITION BY uri) AS kept FROM accounts WHERE uri IS NOT NULL'
    execute "UPDATE statuses SET account_id = kept FROM (#{newest}) AS found WHERE account_id = found.id AND found.id <> kept"
    execute "DELETE FROM accounts USING (#{newest}) AS found WHERE accounts.id = found.id AND found.id <> kept"
  end
end
