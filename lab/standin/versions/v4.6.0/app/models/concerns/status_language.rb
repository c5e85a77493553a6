# frozen_string_literal: true

# The language of a post, in the column `language`; until the post-deployment migrations have run, older posts
# have theirs in `language_code` alone.
module StatusLanguage
  extend ActiveSupport::Concern

  included { self.ignored_columns += %w(language_code) }

  def posted_language
    language
  end

  def posted_language=(posted)
    self.language = posted
  end
end
