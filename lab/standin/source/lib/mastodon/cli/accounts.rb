# frozen_string_literal: true

module Mastodon
  module CLI
    class Accounts < Base
      option :email, required: true
      option :confirmed, type: :boolean
      option :role
      option :reattach, type: :boolean
      option :force, type: :boolean
      option :approve, type: :boolean
      desc 'create USERNAME', 'Create a new user account'
      def create(username)
        account = Account.find_local(username) if options[:reattach]
        if account&.user
          unless options[:force]
            say('The chosen username is currently in use', :red)
            say('Use --force to reattach it anyway and delete the other user')
            return
          end
          account.destroy!
          account = nil
        end

        password = SecureRandom.hex
        user = User.new(
          account: account || Account.new(username: username), email: options[:email], password: password, role: find_role(options[:role]),
          confirmed_at: (Time.now.utc if options[:confirmed]), approved: options[:approve] || Setting['registrations_mode'] == 'open'
        )
        report_errors(user.errors) unless user.save

        say('OK', :green)
        say("New password: #{password}")
      end

      option :role
      option :remove_role, type: :boolean
      option :email
      option :confirm, type: :boolean
      option :enable, type: :boolean
      option :disable, type: :boolean
      option :disable_2fa, type: :boolean
      option :approve, type: :boolean
      option :reset_password, type: :boolean
      desc 'modify USERNAME', 'Modify a user account'
      def modify(username)
        user = find_user(username)
        user.role = find_role(options[:role]) if options[:role]
        user.role = nil if options[:remove_role]
        user.email = options[:email] if options[:email]
        user.disabled = false if options[:enable]
        user.disabled = true if options[:disable]
        user.approved = true if options[:approve]
        if options[:reset_password]
          password = SecureRandom.hex
          user.password = password
          user.access_tokens.update_all(revoked_at: Time.now.utc)
        end
        report_errors(user.errors) unless user.save

        user.confirm! if options[:confirm]
        say('OK', :green)
        say("New password: #{password}") if password
      end

      option :all, type: :boolean
      option :number, type: :numeric, aliases: [:n]
      desc 'approve [USERNAME]', 'Approve pending accounts'
      def approve(username = nil)
        scope =
          if options[:all] then User.where(approved: false)
          elsif options[:number] then User.where(id: User.where(approved: false).order(:id).limit(options[:number]))
          elsif username then User.where(id: (Account.find_local(username) || fail_with_message('No such account')).user)
          else fail_with_message('No account(s) given')
          end
        scope.update_all(approved: true)
        say('OK', :green)
      end

      option :email
      option :dry_run, type: :boolean
      desc 'delete [USERNAME]', 'Delete a user'
      def delete(username = nil)
        fail_with_message('Use username or --email, not both') if username.present? && options[:email].present?
        fail_with_message('No username provided') if username.blank? && options[:email].blank?

        account = username.present? ? Account.find_local(username) : User.find_by(email: options[:email])&.account
        fail_with_message("No user with such #{username.present? ? 'username' : 'email'}") if account.nil?

        say("Deleting user with #{account.statuses.count} statuses, this might take a while...#{dry_run_suffix}")
        account.destroy! unless dry_run?
        say("OK#{dry_run_suffix}", :green)
      end

      option :all, type: :boolean
      desc 'rotate [USERNAME]', 'Generate and broadcast new keys'
      def rotate(username = nil)
        accounts = options[:all] ? Account.local : [Account.find_local(username) || fail_with_message('No account(s) given')]
        accounts.each do |account|
          account.generate_keys
          account.save!
        end
        say('OK', :green)
      end

      private

      def find_role(name)
        return if name.nil?

        UserRole.find_by(name: name) || fail_with_message('Cannot find user role with that name')
      end
    end
  end
end
