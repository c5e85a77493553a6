# This file is auto-generated from the current state of the database. Instead
# of editing this file, please use the migrations feature of Active Record to
# incrementally modify your database, and then regenerate this schema definition.
#
# This file is the source Rails uses to define your schema when running `bin/rails
# db:schema:load`. When creating a new database, `bin/rails db:schema:load` tends to
# be faster and is potentially less error prone than running all of your
# migrations from scratch. Old migrations may fail to apply correctly if those
# migrations use external dependencies or application code.
#
# It's strongly recommended that you check this file into your version control system.

ActiveRecord::Schema[7.2].define(version: 2025_09_01_100300) do
  # These are extensions that must be enabled in order to support this database
  enable_extension "plpgsql"

  create_table "accounts", force: :cascade do |t|
    t.string "username", default: "", null: false
    t.string "domain"
    t.string "uri", default: "", null: false
    t.string "display_name", default: "", null: false
    t.text "private_key"
    t.text "public_key", default: "", null: false
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index "lower((username)::text), COALESCE(lower((domain)::text), ''::text)", name: "index_accounts_on_username_and_domain_lower", unique: true
    t.index ["uri"], name: "index_accounts_on_uri"
  end

  create_table "job_runs", force: :cascade do |t|
    t.string "queue", null: false
    t.string "job", null: false
    t.string "hostname", null: false
    t.integer "pid", null: false
    t.string "origin"
    t.bigint "status_id"
    t.datetime "created_at", null: false
    t.index ["status_id"], name: "index_job_runs_on_status_id"
  end

  create_table "login_activities", force: :cascade do |t|
    t.bigint "user_id", null: false
    t.inet "ip"
    t.string "user_agent"
    t.datetime "created_at"
    t.index ["user_id"], name: "index_login_activities_on_user_id"
  end

  create_table "media_attachments", force: :cascade do |t|
    t.bigint "account_id", null: false
    t.bigint "status_id"
    t.string "file_key", null: false
    t.string "file_content_type", null: false
    t.integer "file_file_size", null: false
    t.text "description"
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["account_id"], name: "index_media_attachments_on_account_id"
    t.index ["status_id"], name: "index_media_attachments_on_status_id"
  end

  create_table "oauth_access_tokens", force: :cascade do |t|
    t.string "token", null: false
    t.bigint "application_id", null: false
    t.bigint "resource_owner_id"
    t.string "scopes"
    t.datetime "revoked_at"
    t.datetime "created_at", null: false
    t.index ["application_id"], name: "index_oauth_access_tokens_on_application_id"
    t.index ["resource_owner_id"], name: "index_oauth_access_tokens_on_resource_owner_id"
    t.index ["token"], name: "index_oauth_access_tokens_on_token", unique: true
  end

  create_table "oauth_applications", force: :cascade do |t|
    t.string "name", null: false
    t.string "uid", null: false
    t.string "secret", null: false
    t.text "redirect_uri", null: false
    t.string "scopes", default: "", null: false
    t.string "website"
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["uid"], name: "index_oauth_applications_on_uid", unique: true
  end

  create_table "preview_cards", force: :cascade do |t|
    t.string "url", null: false
    t.string "image_file_name"
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["url"], name: "index_preview_cards_on_url", unique: true
  end

  create_table "settings", force: :cascade do |t|
    t.string "var", null: false
    t.text "value"
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["var"], name: "index_settings_on_var", unique: true
  end

  create_table "statuses", force: :cascade do |t|
    t.bigint "account_id", null: false
    t.text "text", default: "", null: false
    t.text "spoiler_text", default: "", null: false
    t.boolean "sensitive", default: false, null: false
    t.integer "visibility", default: 0, null: false
    t.string "language_code"
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["account_id"], name: "index_statuses_on_account_id"
    t.index ["id"], name: "index_statuses_public", where: "(visibility = 0)"
  end

  create_table "user_roles", force: :cascade do |t|
    t.string "name", default: "", null: false
    t.integer "position", default: 0, null: false
    t.bigint "permissions", default: 0, null: false
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["name"], name: "index_user_roles_on_name", unique: true
  end

  create_table "users", force: :cascade do |t|
    t.string "email", default: "", null: false
    t.string "encrypted_password", default: "", null: false
    t.bigint "account_id", null: false
    t.bigint "role_id"
    t.string "confirmation_token"
    t.datetime "confirmed_at"
    t.boolean "approved", default: true, null: false
    t.boolean "disabled", default: false, null: false
    t.datetime "current_sign_in_at"
    t.inet "current_sign_in_ip"
    t.integer "sign_in_count", default: 0, null: false
    t.string "chosen_languages", array: true
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["account_id"], name: "index_users_on_account_id"
    t.index ["confirmation_token"], name: "index_users_on_confirmation_token", unique: true
    t.index ["email"], name: "index_users_on_email", unique: true
    t.index ["role_id"], name: "index_users_on_role_id"
  end

  add_foreign_key "job_runs", "statuses", on_delete: :cascade
  add_foreign_key "login_activities", "users", on_delete: :cascade
  add_foreign_key "media_attachments", "accounts", on_delete: :cascade
  add_foreign_key "media_attachments", "statuses", on_delete: :nullify
  add_foreign_key "oauth_access_tokens", "oauth_applications", column: "application_id", on_delete: :cascade
  add_foreign_key "oauth_access_tokens", "users", column: "resource_owner_id", on_delete: :cascade
  add_foreign_key "statuses", "accounts", on_delete: :cascade
  add_foreign_key "users", "accounts", on_delete: :cascade
  add_foreign_key "users", "user_roles", column: "role_id", on_delete: :nullify
end
