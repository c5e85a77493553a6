# frozen_string_literal: true

class IndexPublicStatuses < ActiveRecord::Migration[7.2]
  disable_ddl_transaction!

  def change
    add_index :statuses, :id, where: 'visibility = 0', name: 'index_statuses_public', algorithm: :concurrently, if_not_exists: true
  end
end
