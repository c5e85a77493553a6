# frozen_string_literal: true

class CreateOauth < ActiveRecord::Migration[7.2]
  def change
    create_table :oauth_applications do |t|
      t.string :name, null: false
      t.string :uid, null: false, index: { unique: true }
      t.string :secret, null: false
      t.text :redirect_uri, null: false
      t.string :scopes, null: false, default: ''
      t.string :website
      t.timestamps
    end

    create_table :oauth_access_tokens do |t|
      t.string :token, null: false, index: { unique: true }
      t.references :application, null: false, foreign_key: { to_table: :oauth_applications, on_delete: :cascade }
      t.references :resource_owner, foreign_key: { to_table: :users, on_delete: :cascade }
      t.string :scopes
      t.datetime :revoked_at
      t.datetime :created_at, null: false
    end
  end
end
