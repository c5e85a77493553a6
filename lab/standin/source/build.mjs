// Bundles app/javascript into public/packs under names that carry a digest, with a manifest of them.
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { build } from 'esbuild';

const out = 'public/packs';
await rm(out, { recursive: true, force: true });

const { metafile } = await build({
  entryPoints: ['app/javascript/application.js', 'app/javascript/styles/application.css'],
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  outdir: out,
  entryNames: '[name]-[hash]',
  metafile: true,
  logLevel: 'info',
});

const manifest = {};
for (const [file, { entryPoint }] of Object.entries(metafile.outputs)) {
  manifest[path.basename(entryPoint)] = path.basename(file);
}
await writeFile(path.join(out, 'manifest.json'), JSON.stringify(manifest, null, 2));
