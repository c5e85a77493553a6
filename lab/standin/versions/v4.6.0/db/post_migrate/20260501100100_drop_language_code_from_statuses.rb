# frozen_string_literal: true

class DropLanguageCodeFromStatuses < ActiveRecord::Migration[7.2]
  def up
    execute 'UPDATE statuses SET language = language_code WHERE language IS NULL AND language_code IS NOT NULL'
    remove_column :statuses, :language_code
  end

  def down
    add_column :statuses, :language_code, :string
  end
end
