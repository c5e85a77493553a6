# frozen_string_literal: true

class CreateKeypairs < ActiveRecord::Migration[7.2]
  def change
    create_table :keypairs, if_not_exists: true do |t|
      t.references :account, null: false, index: { unique: true }, foreign_key: { on_delete: :cascade }
      t.string :uri, null: false, index: { unique: true }
      t.string :public_key, null: false
      t.text :private_key
      t.timestamps
    end
  end
end
