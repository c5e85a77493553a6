# frozen_string_literal: true

[['Moderator', 10, 1308], ['Admin', 100, 983_036], ['Owner', 1000, 1]].each do |name, position, permissions|
  UserRole.find_or_create_by!(name: name) { |role| role.assign_attributes(position: position, permissions: permissions) }
end
