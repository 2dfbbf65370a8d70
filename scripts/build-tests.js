// Bundles the tests into build/test/ for tap: loading one file instead of a thousand is most of their
// speed. The files of a folder share a process, but for those that change process.env.

import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { build } from 'esbuild'
import { undiciPatch } from './undici-patch.js'

rmSync('build', { recursive: true, force: true })

const entryPoints = {}
const together = {}
for (const folder of readdirSync('test')) {
  const files = readdirSync(join('test', folder)).filter(name => name.endsWith('.test.ts'))
  for (const name of files) {
    const file = join('test', folder, name)
    const changesProcess = /process\.env\[?.*\]? = |delete process\.env|openDemo/.test(
      readFileSync(file, 'utf8'),
    )
    if (changesProcess) entryPoints[`test/${folder}/${basename(name, '.ts')}`] = file
    else together[folder] = [...(together[folder] ?? []), file]
  }
}
for (const [folder, files] of Object.entries(together)) {
  entryPoints[`test/${folder}.test`] = `together:${JSON.stringify(files)}`
}

await build({
  entryPoints,
  outdir: 'build',
  bundle: true,
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]',
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  sourcemap: 'linked',
  external: ['tap'],
  logLevel: 'warning',
  // CommonJS dependencies inside an ES module still call require.
  banner: {
    js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
  },
  plugins: [
    undiciPatch,
    {
      name: 'together',
      setup(bundler) {
        bundler.onResolve({ filter: /^together:/ }, ({ path }) => ({ path, namespace: 'together' }))
        bundler.onLoad({ filter: /.*/, namespace: 'together' }, ({ path }) => ({
          contents: JSON.parse(path.slice('together:'.length))
            .map(file => `import ${JSON.stringify(`./${file}`)}`)
            .join('\n'),
          resolveDir: process.cwd(),
        }))
      },
    },
  ],
})
