# frozen_string_literal: true

class AllowNullInAccountsUri < ActiveRecord::Migration[7.2]
  def up
    change_column_default :accounts, :uri, from: '', to: nil
    change_column_null :accounts, :uri, true
  end

  def down
    execute "UPDATE accounts SET uri = '' WHERE uri IS NULL"
    change_column_null :accounts, :uri, false
    change_column_default :accounts, :uri, from: nil, to: ''
  end
end
