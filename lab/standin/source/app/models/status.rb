# frozen_string_literal: true

class Status < ApplicationRecord
  include StatusLanguage

  VISIBILITIES = { public: 0, unlisted: 1, private: 2, direct: 3 }.freeze

  belongs_to :account
  has_many :media_attachments, dependent: :nullify
  has_many :job_runs, dependent: :delete_all

  enum :visibility, VISIBILITIES, prefix: true

  validates :text, presence: true, if: -> { media_attachments.empty? }
  validates :text, length: { maximum: 500 }

  def url
    "#{account.url}/#{id}"
  end
end
