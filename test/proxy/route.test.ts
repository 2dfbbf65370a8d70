import t from 'tap'
import { compilePermits, type Route, RouteTable, resolveTarget } from '../../src/proxy/route.ts'
import { splitTarget } from '../../src/proxy/target.ts'
import { testRoute } from '../helpers/gateway.ts'

/** Of a route only what these functions look at. */
function route(
  path: string,
  overrides: { basePath?: string; methods?: string[]; paths?: string[] } = {},
): Route {
  const config = testRoute(
    { path, upstream: `https://upstream.example${overrides.basePath ?? ''}`, ...overrides },
    'token',
  )
  return { name: config.name, config, permits: compilePermits(config), defaultQuery: [] } as unknown as Route
}

t.test('the longest route at a segment boundary wins, whatever their order', async t => {
  const paths = ['/', '/a', '/a/b/c', '/a/b', '/ab']
  for (const order of [paths, [...paths].reverse()]) {
    const table = new RouteTable(order.map(path => route(path)))
    for (const [path, expected] of [
      ['/', '/'],
      ['/x', '/'],
      ['/a', '/a'],
      ['/a/', '/a'],
      ['/a/x', '/a'],
      ['/ab', '/ab'],
      ['/abc', '/'],
      ['/a/b', '/a/b'],
      ['/a/bc', '/a'],
      ['/a/b/c/d', '/a/b/c'],
      ['//a', '/'],
      ['/A', '/'],
      ['/%61', '/'],
      [`/a/b/${'x/'.repeat(2_000)}`, '/a/b'],
    ] as const) {
      t.equal(table.match(path).config.path, expected, path.slice(0, 20))
    }
  }
})

t.test('without a matching route the error names the routes and the nearest one', async t => {
  const table = new RouteTable([route('/batch'), route('/score')])
  t.throws(() => table.match('/btach/x'), {
    code: 'no_route',
    message: /\/batch, \/score/,
    remedy: /\/batch\?/,
  })
  t.throws(() => table.match('/entirely-else'), { code: 'no_route', remedy: /add a route/ })
})

t.test('the target is base path plus rest plus query, bytes kept', async t => {
  for (const [path, basePath, mounted, target, expected] of [
    ['/a', '', false, '/a', '/'],
    ['/a', '', false, '/a/', '/'],
    ['/a', '', false, '/a?x=1', '/?x=1'],
    ['/a', '', false, '/a//b/%2F', '//b/%2F'],
    ['/a', '/base', false, '/a', '/base'],
    ['/a', '/base', false, '/a/', '/base/'],
    ['/a', '/base', false, '/a/x?y#'.slice(0, -1), '/base/x?y'],
    ['/', '', false, '/', '/'],
    ['/', '/score', false, '/', '/score'],
    ['/', '/score', false, '/?x', '/score?x'],
    ['/', '/score', false, '/x', '/score/x'],
    ['/a', '/score', true, '/', '/score'],
    ['/a', '/score', true, '/a', '/score/a'],
    ['/a', '', true, '/x/', '/x/'],
  ] as const) {
    t.equal(
      resolveTarget(route(path, { basePath }), splitTarget(target), mounted),
      expected,
      `${path} ${target}`,
    )
  }
})

t.test('a path list: * is a segment, ** any number, everything else literal', async t => {
  const cases: [string, string, boolean][] = [
    ['/jobs', '/jobs', true],
    ['/jobs', '/jobs/', false],
    ['/jobs', '/jobsx', false],
    ['/jobs/*', '/jobs/1', true],
    ['/jobs/*', '/jobs', false],
    ['/jobs/*', '/jobs/1/2', false],
    ['/jobs/**', '/jobs', true],
    ['/jobs/**', '/jobs/1/2', true],
    ['/jobs/**', '/jobsx', false],
    ['/**', '/', true],
    ['/**', '/a/b', true],
    ['/a/**/z', '/a/b/c/z', true],
    ['/a/**/z', '/a/b/c', false],
    ['/v1.0/x', '/v1.0/x', true],
    ['/v1.0/x', '/v1a0/x', false],
    ['/a(b)+', '/a(b)+', true],
    ['/a(b)+', '/abb', false],
  ]
  for (const [glob, path, expected] of cases) {
    t.equal(compilePermits({ paths: [glob] }).paths!.test(path), expected, `${glob} ${path}`)
  }
})
