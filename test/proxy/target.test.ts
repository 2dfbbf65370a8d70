import fc from 'fast-check'
import t from 'tap'
import { checkPath, splitTarget } from '../../src/proxy/target.ts'

t.test('a target is split at its first question mark, and nothing is decoded', async t => {
  t.same(splitTarget('/a?b?c'), { path: '/a', query: '?b?c' })
  t.same(splitTarget('/a?'), { path: '/a', query: '?' })
  t.same(splitTarget('/a%3Fb'), { path: '/a%3Fb', query: '' })
  for (const target of ['a', '', '*', 'http://x/', '?x']) {
    t.throws(() => splitTarget(target), { code: 'bad_request_target' }, target)
  }
})

/** What a second reader might make of a path: decode it (up to twice), take either separator. */
function readings(path: string): string[] {
  const once = path.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
  return [path, once].map(each => each.replaceAll('\\', '/'))
}

t.test('no path that passes has a dot segment in any reading of it', async t => {
  const piece = fc.constantFrom(
    '/',
    '.',
    '..',
    '%2e',
    '%2E',
    '%2f',
    '%2F',
    '%5c',
    '%5C',
    '\\',
    'a',
    '%25',
    '%20',
    ';',
    '...',
  )
  let passed = 0
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 10 }), pieces => {
      const path = `/${pieces.join('')}`
      try {
        checkPath(path)
      } catch {
        return true
      }
      passed++
      return readings(path).every(
        each => !each.split('/').some(segment => segment === '.' || segment === '..'),
      )
    }),
    { numRuns: 20_000 },
  )
  t.ok(passed > 1_000, 'and enough of them pass')
})

t.test('a path that passes holds visible ASCII only', async t => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 20 }), text => {
      const path = `/${text}`
      try {
        checkPath(path)
      } catch {
        return true
      }
      return /^[\x21-\x7e]+$/.test(path) && !/[\\#]/.test(path)
    }),
    { numRuns: 5_000 },
  )
  t.throws(() => checkPath('/a%00b'), { code: 'path_refused', remedy: /percent-encoded/ })
})
