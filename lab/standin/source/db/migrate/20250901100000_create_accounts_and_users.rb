# frozen_string_literal: true

class CreateAccountsAndUsers < ActiveRecord::Migration[7.2]
  def change
    create_table :accounts do |t|
      t.string :username, null: false, default: ''
      t.string :domain
      t.string :uri, null: false, default: ''
      t.string :display_name, null: false, default: ''
      t.text :private_key
      t.text :public_key, null: false, default: ''
      t.timestamps
      t.index "lower(username), COALESCE(lower(domain), '')", unique: true, name: 'index_accounts_on_username_and_domain_lower'
      t.index :uri
    end

    create_table :user_roles do |t|
      t.string :name, null: false, default: '', index: { unique: true }
      t.integer :position, null: false, default: 0
      t.bigint :permissions, null: false, default: 0
      t.timestamps
    end

    create_table :users do |t|
      t.string :email, null: false, default: '', index: { unique: true }
      t.string :encrypted_password, null: false, default: ''
      t.references :account, null: false, foreign_key: { on_delete: :cascade }
      t.references :role, foreign_key: { to_table: :user_roles, on_delete: :nullify }
      t.string :confirmation_token, index: { unique: true }
      t.datetime :confirmed_at
      t.boolean :approved, null: false, default: true
      t.boolean :disabled, null: false, default: false
      t.datetime :current_sign_in_at
      t.inet :current_sign_in_ip
      t.integer :sign_in_count, null: false, default: 0
      t.string :chosen_languages, array: true
      t.timestamps
    end

    create_table :login_activities do |t|
      t.references :user, null: false, foreign_key: { on_delete: :cascade }
      t.inet :ip
      t.string :user_agent
      t.datetime :created_at
    end
  end
end
