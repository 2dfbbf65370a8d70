// undici 7.30.2 asserts, outside of any handler and so fatally, when a connection is lost while its answer
// is paused for a slow client (nodejs/undici#5360; fixed in 8.x, which needs Node 22). Here the answer
// fails instead, as every other that breaks off. To be removed with an undici that has the fix.

import { readFileSync } from 'node:fs'

const BROKEN = `    assert(currentParser === null)
    assert(this.ptr != null)
    assert(!this.paused)

    const { llhttp } = this
`
const MENDED = `    assert(currentParser === null)
    assert(this.ptr != null)
    if (this.paused) return new SocketError('connection lost while paused')

    const { llhttp } = this
`

export const undiciPatch = {
  name: 'undici-patch',
  setup(build) {
    build.onLoad({ filter: /undici\/lib\/dispatcher\/client-h1\.js$/ }, ({ path }) => {
      const source = readFileSync(path, 'utf8')
      if (source.split(BROKEN).length !== 2) {
        throw new Error('undici has changed: look whether scripts/undici-patch.js is still needed')
      }
      return { contents: source.replace(BROKEN, MENDED), loader: 'js' }
    })
  },
}
