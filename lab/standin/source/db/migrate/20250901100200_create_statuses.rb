# frozen_string_literal: true

class CreateStatuses < ActiveRecord::Migration[7.2]
  def change
    create_table :statuses do |t|
      t.references :account, null: false, foreign_key: { on_delete: :cascade }
      t.text :text, null: false, default: ''
      t.text :spoiler_text, null: false, default: ''
      t.boolean :sensitive, null: false, default: false
      t.integer :visibility, null: false, default: 0
      t.string :language_code
      t.timestamps
    end

    create_table :media_attachments do |t|
      t.references :account, null: false, foreign_key: { on_delete: :cascade }
      t.references :status, foreign_key: { on_delete: :nullify }
      t.string :file_key, null: false
      t.string :file_content_type, null: false
      t.integer :file_file_size, null: false
      t.text :description
      t.timestamps
    end

    create_table :preview_cards do |t|
      t.string :url, null: false, index: { unique: true }
      t.string :image_file_name
      t.timestamps
    end

    create_table :settings do |t|
      t.string :var, null: false, index: { unique: true }
      t.text :value
      t.timestamps
    end

    create_table :job_runs do |t|
      t.string :queue, null: false
      t.string :job, null: false
      t.string :hostname, null: false
      t.integer :pid, null: false
      t.string :origin
      t.references :status, foreign_key: { on_delete: :cascade }
      t.datetime :created_at, null: false
    end
  end
end
