# frozen_string_literal: true

namespace :assets do
  desc 'Compile all the assets: bundles to public/packs, digested copies to public/assets, and the error page'
  task precompile: :environment do
    sh 'yarn', 'run', 'build:production'

    manifest = {}
    sources = Rails.root.join('app/javascript/styles')
    target = Rails.public_path.join('assets').tap(&:mkpath)
    sources.glob('*').each do |file|
      digested = "#{file.basename('.*')}-#{Digest::SHA256.file(file).hexdigest[0, 8]}#{file.extname}"
      FileUtils.cp(file, target.join(digested))
      manifest[file.basename.to_s] = digested
    end
    target.join('.manifest.json').write(JSON.pretty_generate(manifest))

    style = manifest.fetch('application.css')
    Rails.public_path.join('500.html').write(<<~HTML)
      <!DOCTYPE html>
      <html lang="en">
      <head><meta charset="utf-8"><title>We're sorry, but something went wrong on our end.</title>
      <link rel="stylesheet" href="#{Rails.application.config.asset_host}/assets/#{style}"></head>
      <body><h1>We're sorry, but something went wrong on our end.</h1></body>
      </html>
    HTML
  end

  desc 'Remove compiled assets'
  task clobber: :environment do
    FileUtils.rm_rf([Rails.public_path.join('assets'), Rails.public_path.join('packs'), Rails.public_path.join('500.html')])
  end
end
