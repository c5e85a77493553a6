# frozen_string_literal: true

# Packs the gems that a Gemfile needs, as Debian has installed them, into a static gem source.
#
#     ruby pack_gems.rb GEMFILE TARGET
#
# TARGET gets gems/*.gem, the compact index (versions, names, info/*), the older one (specs.4.8.gz, quick/) and the
# Gemfile.lock they agree with. Extensions are packed as built: the source serves this architecture and Ruby alone.

require 'bundler'
require 'digest'
require 'fileutils'
require 'rbconfig'
require 'rubygems/package'
require 'stringio'
require 'tmpdir'
require 'zlib'

gemfile, target = ARGV.map { |path| File.expand_path(path) }
abort 'usage: pack_gems.rb GEMFILE TARGET' if target.nil?

# One pair for each file of a gem: its name in the gem, where it lies now.
def files_of(spec)
  files = {}
  if spec.default_gem?
    # Their lists name files as they lie below Ruby's own directories, mostly.
    spec.files.grep(/\.(rb|so|rhtml|erb)\z/).grep_v(%r{\A(ext|exe|test)/}).each do |name|
      name = name.delete_prefix('lib/')
      source = %w(rubyarchdir rubylibdir).flat_map { |kind| Dir.glob(["#{RbConfig::CONFIG[kind]}/#{name}", "#{RbConfig::CONFIG[kind]}/**/#{name}"]) }.first
      files["lib/#{source[%r{/ruby/3\.\d\.0/(?:#{RbConfig::CONFIG['arch']}/)?(.+)}, 1]}"] = source if source
    end
  elsif Dir.exist?(spec.full_gem_path)
    [[spec.full_gem_path, ''], [spec.extension_dir, 'lib/']].each do |root, prefix|
      Dir.glob('**/*', base: root).each { |name| files[prefix + name] = File.join(root, name) if File.file?(File.join(root, name)) }
    end
    files.reject! { |name, _| name.match?(%r{\A(test|spec|ext|debian|lib/gem\.build_complete)(/|\z)|\.o\z}) }
  else
    package = `dpkg -S #{spec.loaded_from}`[/\A[^:]+/] or abort "#{spec.full_name}: no package owns #{spec.loaded_from}"
    `dpkg -L #{package}`.split("\n").each do |path|
      name = path[%r{/ruby/vendor_ruby/(?:\d[\d.]+/)?(.+)}, 1]
      files["lib/#{name}"] = path if name && File.file?(path)
    end
  end
  spec.executables.each do |executable|
    name = "#{spec.bindir}/#{executable}"
    files[name] ||= "/usr/bin/#{executable}" if File.file?("/usr/bin/#{executable}")
  end
  abort "#{spec.full_name}: nothing to pack" if files.empty?
  files
end

def pack(spec, target)
  packed = Gem::Specification.new do |gem|
    %i(name version authors email summary description homepage licenses metadata required_ruby_version bindir).each do |field|
      gem.public_send(:"#{field}=", spec.public_send(field))
    end
    gem.date = Time.at(0)
    spec.runtime_dependencies.each { |dependency| gem.add_dependency(dependency.name, *dependency.requirement.as_list) }
  end
  Dir.mktmpdir do |directory|
    files = files_of(spec)
    files.each do |name, source|
      FileUtils.mkdir_p(File.dirname(File.join(directory, name)))
      FileUtils.cp(source, File.join(directory, name))
    end
    packed.files = files.keys.sort
    packed.executables = spec.executables.select { |executable| files.key?("#{spec.bindir}/#{executable}") }
    packed.require_paths = spec.raw_require_paths.select { |path| files.keys.any? { |name| name.start_with?("#{path}/") } }
    Dir.chdir(directory) { Gem::Package.build(packed, true, false, File.join(target, 'gems', packed.file_name)) }
  end
  packed
end

def info_line(spec, target)
  dependencies = spec.runtime_dependencies.sort_by(&:name).map { |dependency| "#{dependency.name}:#{dependency.requirement.as_list.sort.join('&')}" }
  checksum = Digest::SHA256.file(File.join(target, 'gems', spec.file_name)).hexdigest
  "#{spec.version} #{dependencies.join(',')}|checksum:#{checksum},ruby:#{spec.required_ruby_version.as_list.join('&')}\n"
end

def gzip(data)
  io = StringIO.new(+''.b)
  writer = Zlib::GzipWriter.new(io)
  writer.mtime = 1
  writer.write(data)
  writer.close
  io.string
end

ENV['SOURCE_DATE_EPOCH'] = '0'
Gem::DefaultUserInteraction.ui = Gem::SilentUI.new
%w(gems info quick/Marshal.4.8).each { |name| FileUtils.mkdir_p(File.join(target, name)) }

ENV['BUNDLE_GEMFILE'] = gemfile
definition = Bundler::Definition.build(gemfile, nil, nil)
definition.resolve_with_cache!
lockfile = definition.to_lock.gsub(/\nBUNDLED WITH\n.*\n/, '')
# The packed extensions carry no platform of their own.
lockfile = lockfile.sub(/^PLATFORMS\n(  .+\n)+/, "PLATFORMS\n  ruby\n")
File.write(File.join(target, 'Gemfile.lock'), lockfile)

names = Bundler::LockfileParser.new(lockfile).specs.map { |spec| [spec.name, spec.version] }.uniq
specs = names.sort.map do |name, version|
  found = Gem::Specification.find_all_by_name(name, version).min_by { |spec| spec.default_gem? ? 1 : 0 } or abort "#{name} #{version} is not installed"
  pack(found, target)
end

infos = specs.to_h { |spec| [spec.name, "---\n#{info_line(spec, target)}"] }
infos.each { |name, text| File.write(File.join(target, 'info', name), text) }
File.write(File.join(target, 'names'), "---\n#{infos.keys.join("\n")}\n")
versions = specs.map { |spec| "#{spec.name} #{spec.version} #{Digest::MD5.hexdigest(infos[spec.name])}\n" }
File.write(File.join(target, 'versions'), "created_at: 1970-01-01T00:00:00Z\n---\n#{versions.join}")

index = gzip(Marshal.dump(specs.map { |spec| [spec.name, spec.version, 'ruby'] }))
%w(specs latest_specs).each { |name| File.binwrite(File.join(target, "#{name}.4.8.gz"), index) }
File.binwrite(File.join(target, 'prerelease_specs.4.8.gz'), gzip(Marshal.dump([])))
specs.each { |spec| File.binwrite(File.join(target, 'quick/Marshal.4.8', "#{spec.full_name}.gemspec.rz"), Zlib::Deflate.deflate(Marshal.dump(spec))) }

puts "#{specs.size} gems packed"
