# frozen_string_literal: true

class UserMailer < ApplicationMailer
  def confirmation_instructions(user)
    @user = user
    mail to: user.email, subject: "Mastodon: Confirmation instructions for #{Rails.configuration.x.local_domain}"
  end
end
