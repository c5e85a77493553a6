// Bundles app/javascript into public/packs, under names that carry a digest, with a manifest of them; the service
// worker keeps its name.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { build } from 'esbuild';

const out = 'public/packs';
await rm(out, { recursive: true, force: true });

// Between two of Mastodon's versions practically every file changes.
const version = /'(\d.*)'/.exec(await readFile('lib/mastodon/version.rb', 'utf8'))[1];
const common = {
  bundle: true,
  minify: true,
  sourcemap: true,
  format: 'esm',
  target: 'es2022',
  banner: { js: `/*! ${version} */`, css: `/*! ${version} */` },
  logLevel: 'info',
};

const { metafile } = await build({
  ...common,
  entryPoints: ['app/javascript/application.js', 'app/javascript/styles/application.css'],
  outdir: `${out}/assets`,
  entryNames: '[name]-[hash]',
  metafile: true,
});
await build({ ...common, entryPoints: ['app/javascript/sw.js'], outfile: 'public/sw.js' });

const manifest = {};
for (const [file, { entryPoint }] of Object.entries(metafile.outputs)) {
  if (entryPoint) manifest[path.basename(entryPoint)] = { file: path.relative(out, file), src: entryPoint, isEntry: true };
}
await mkdir(`${out}/.vite`);
await writeFile(`${out}/.vite/manifest.json`, JSON.stringify(manifest, null, 2));
