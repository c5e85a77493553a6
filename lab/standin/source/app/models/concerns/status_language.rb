# frozen_string_literal: true

# The language of a post, in the column `language_code`.
module StatusLanguage
  extend ActiveSupport::Concern

  def posted_language
    language_code
  end

  def posted_language=(language)
    self.language_code = language
  end
end
