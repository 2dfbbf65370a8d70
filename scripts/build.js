// Bundles the program into dist/: one entry, and chunks for what is loaded only when it is needed.

import { rmSync } from 'node:fs'
import { build } from 'esbuild'
import { undiciPatch } from './undici-patch.js'

const quiet = process.argv.includes('--quiet')
rmSync('dist', { recursive: true, force: true })

const { metafile } = await build({
  entryPoints: { 'entra-proxy': 'src/main.ts' },
  outdir: 'dist',
  bundle: true,
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]',
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  minify: true,
  legalComments: 'external',
  metafile: true,
  plugins: [undiciPatch],
  logLevel: 'warning',
  // CommonJS dependencies inside an ES module still call require.
  banner: {
    js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
  },
})

if (!quiet) {
  const bytes = Object.values(metafile.outputs).reduce((sum, output) => sum + output.bytes, 0)
  console.log(`dist/  ${Object.keys(metafile.outputs).length} files, ${(bytes / 1e6).toFixed(2)} MB`)
}
