// Who may call. Every refusal is looked at from both sides: the answer, and an upstream that saw nothing.

import { writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { type GatewayOverrides, openGateway } from '../helpers/gateway.ts'
import { get, sendRaw } from '../helpers/raw-client.ts'
import { openRecorder } from '../helpers/recorder.ts'

async function open(t: Test, overrides: Partial<GatewayOverrides> = {}) {
  const upstream = await openRecorder()
  t.teardown(() => upstream.close())
  const gateway = await openGateway(t, { routes: [{ upstream: upstream.origin }], ...overrides })
  return { ...gateway, upstream }
}

t.test('a Host that is not exactly ours is refused', async t => {
  const { port, upstream } = await open(t)
  const foreign = [
    'attacker.example',
    `attacker.example:${port}`,
    'localhost',
    'localhost:1',
    `localhost.evil.com:${port}`,
    `evillocalhost:${port}`,
    `127.0.0.1.nip.io:${port}`,
    `localhost.:${port}`,
    `127.1:${port}`,
    `0x7f.1:${port}`,
    `2130706433:${port}`,
    `[::ffff:127.0.0.1]:${port}`,
    `a@localhost:${port}`,
    `0.0.0.0:${port}`,
    `localhost:${port}.`,
    `localhost:0${port}`,
    `foo.localhost:${port}`,
    '',
  ]
  for (const host of foreign) {
    const answer = await get(port, '/', [`Host: ${host}`])
    t.equal(answer.status, 421, JSON.stringify(host))
    t.equal(answer.headers['x-entra-proxy-error'], 'host_not_allowed')
    t.equal(answer.headers['connection'], 'close')
  }
  for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`, `LOCALHOST:${port}`]) {
    t.equal((await get(port, '/', [`Host: ${host}`])).status, 200, host)
  }
  t.equal(upstream.requests.length, 4)
})

t.test('a configured host is taken, with our port or with its own', async t => {
  const { port, upstream } = await open(t, {
    security: {
      allowedHosts: ['gateway.internal', 'localhost:9000'],
      allowedOrigins: [],
      forwardedRequests: 'reject',
      allowRemote: false,
    },
  })
  t.equal((await get(port, '/', [`Host: gateway.internal:${port}`])).status, 200)
  t.equal((await get(port, '/', ['Host: localhost:9000'])).status, 200)
  t.equal((await get(port, '/', ['Host: gateway.internal:1'])).status, 421)
  t.equal(upstream.requests.length, 2)
})

t.test('no Host, and two of them, are bad requests', async t => {
  const { port, upstream } = await open(t)
  const two = `Host: localhost:${port}\r\nHost: localhost:${port}`
  t.equal((await sendRaw(port, `GET / HTTP/1.1\r\n${two}\r\nConnection: close\r\n\r\n`)).status, 400)
  t.equal((await sendRaw(port, 'GET / HTTP/1.1\r\nConnection: close\r\n\r\n')).status, 400)
  t.equal((await sendRaw(port, 'GET / HTTP/1.0\r\n\r\n')).status, 400)
  t.equal((await sendRaw(port, 'GET /\r\n\r\n')).status, 400)
  t.equal(upstream.requests.length, 0)
})

t.test('what a browser page sends is refused, with every method', async t => {
  const { port, upstream } = await open(t)
  for (const line of [
    'Origin: https://evil.example',
    'Origin: null',
    `Origin: http://localhost:1`,
    'Sec-Fetch-Site: cross-site',
    'Sec-Fetch-Site: same-site',
    'Sec-Fetch-Site: same-origin',
    'Sec-Fetch-Site: none',
  ]) {
    for (const method of ['GET', 'POST', 'OPTIONS']) {
      const answer = await sendRaw(
        port,
        `${method} / HTTP/1.1\r\nHost: localhost:${port}\r\n${line}\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n`,
      )
      t.equal(answer.status, 403, `${method} ${line}`)
      t.equal(answer.headers['x-entra-proxy-error'], 'origin_not_allowed')
      t.notMatch(answer.text, /access-control-/i)
    }
  }
  t.equal(upstream.requests.length, 0)
})

t.test("Node's own fetch passes, although it sends sec-fetch-mode", async t => {
  const { url, upstream } = await open(t)
  for (const method of ['GET', 'POST']) {
    const answer = await fetch(`${url}/x`, { method })
    t.equal(answer.status, 200)
    await answer.text()
  }
  t.equal(upstream.requests.length, 2)
  t.equal(upstream.requests[0]!.header('sec-fetch-mode'), undefined)
})

t.test('a page of an allowed origin gets CORS answers', async t => {
  const { port, upstream } = await open(t, {
    security: {
      allowedHosts: [],
      allowedOrigins: ['https://app.example'],
      forwardedRequests: 'reject',
      allowRemote: false,
    },
  })
  const preflight = await sendRaw(
    port,
    `OPTIONS /x HTTP/1.1\r\nHost: localhost:${port}\r\nOrigin: https://app.example\r\nSec-Fetch-Site: cross-site\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: content-type\r\nConnection: close\r\n\r\n`,
  )
  t.equal(preflight.status, 204)
  t.equal(preflight.headers['access-control-allow-origin'], 'https://app.example')
  t.equal(preflight.headers['access-control-allow-methods'], 'PUT')
  t.equal(preflight.headers['access-control-allow-headers'], 'content-type')
  t.equal(upstream.requests.length, 0)
  const answer = await get(port, '/x', ['Origin: https://app.example', 'Sec-Fetch-Site: cross-site'])
  t.equal(answer.status, 200)
  t.equal(answer.headers['access-control-allow-origin'], 'https://app.example')
  t.equal((await get(port, '/x', ['Origin: https://app.example.evil'])).status, 403)
})

t.test(
  'a request that came through another proxy is refused, or stripped where that is configured',
  async t => {
    const lines = ['X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Host: x', 'Forwarded: for=x', 'Via: 1.1 proxy']
    const strict = await open(t)
    for (const line of lines) {
      const answer = await get(strict.port, '/', [line])
      t.equal(answer.status, 403, line)
      t.equal(answer.headers['x-entra-proxy-error'], 'forwarded_not_allowed')
    }
    t.equal(strict.upstream.requests.length, 0)

    const lenient = await open(t, {
      security: { allowedHosts: [], allowedOrigins: [], forwardedRequests: 'strip', allowRemote: false },
    })
    t.equal((await get(lenient.port, '/', lines)).status, 200)
    const [request] = lenient.upstream.requests
    t.equal(request!.header('x-forwarded-for'), undefined)
    t.equal(request!.header('x-forwarded-host'), undefined)
    t.equal(request!.header('forwarded'), undefined)
    t.notMatch(request!.lines.join('\n'), /1\.1 proxy/)
  },
)

t.test('a request that comes back to the same gateway is a loop', async t => {
  const { port, upstream } = await open(t, {
    security: { allowedHosts: [], allowedOrigins: [], forwardedRequests: 'strip', allowRemote: false },
  })
  await get(port, '/')
  const via = upstream.requests[0]!.header('via')
  t.match(via, /^1\.1 entra-proxy-/)
  const answer = await get(port, '/', [`Via: 1.0 other, ${via}`])
  t.equal(answer.status, 508)
  t.equal(answer.headers['x-entra-proxy-error'], 'loop_detected')
  t.equal(upstream.requests.length, 1)
})

t.test(
  'CONNECT, TRACE, * and foreign absolute-form targets are refused; our own absolute form is served',
  async t => {
    const { port, upstream } = await open(t)
    const send = (line: string) =>
      sendRaw(port, `${line} HTTP/1.1\r\nHost: localhost:${port}\r\nConnection: close\r\n\r\n`)
    t.equal((await send('CONNECT evil.example:443')).status, 405)
    const trace = await send('TRACE /')
    t.equal(trace.status, 405)
    t.ok(trace.headers['allow'])
    t.equal((await send('OPTIONS *')).status, 400)
    t.equal((await send('GET http://evil.example/x')).status, 421)
    t.equal((await send('GET https://evil.example/x')).status, 421)
    t.equal((await send(`GET http://localhost:${port}@evil.example/x`)).status, 421)
    t.equal((await send('GET http:/x')).status, 400)
    t.equal((await send('GET evil.example:443')).status, 400)
    t.equal(upstream.requests.length, 0)
    t.equal((await send(`GET http://localhost:${port}/x?y`)).status, 200)
    t.equal(upstream.requests[0]!.target, '/x?y')
    t.equal((await send('GET //evil.example/x')).status, 200)
    t.equal(upstream.requests[1]!.target, '//evil.example/x')
    t.equal(upstream.requests[1]!.header('host'), `localhost:${upstream.port}`)
  },
)

t.test('a WebSocket handshake gets 426; an offer of h2c is ignored', async t => {
  const { port, upstream } = await open(t)
  const answer = await get(port, '/', ['Upgrade: websocket', 'Sec-WebSocket-Key: x'])
  t.equal(answer.status, 426)
  t.equal(answer.headers['x-entra-proxy-error'], 'upgrade_not_allowed')
  t.equal(upstream.requests.length, 0)
  // Java's HttpClient offers h2c with its first request to any http URL.
  const h2c = await sendRaw(
    port,
    `GET / HTTP/1.1\r\nHost: localhost:${port}\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\r\n`,
  )
  t.equal(h2c.status, 200)
  t.notMatch(upstream.requests[0]!.lines.join('\n'), /upgrade|http2-settings/i)
})

t.test(
  'paths that two readers could read differently are refused; odd but clear ones arrive as sent',
  async t => {
    const { port, upstream } = await open(t, {})
    for (const path of [
      '/a/../b',
      '/..',
      '/a/.',
      '/./a',
      '/a/%2e%2e/b',
      '/a/.%2E/b',
      '/a/..%2fb',
      '/a%2f..%2fb',
      '/a/..%5cb',
      '/a%5C..%5Cb',
      '/a\\b',
      '/a#b',
      '/a%00b',
      '/a%1fb',
      '/a%7Fb',
      '/a%zz',
      '/a%',
      '/a%2',
      '/a\xe9',
      '/a?x#y',
      '/a?\xe9',
    ]) {
      const answer = await get(port, path)
      t.equal(answer.status, 400, JSON.stringify(path))
      t.ok(answer.headers['x-entra-proxy-error'], path)
    }
    t.equal(upstream.requests.length, 0)
    const fine = [
      '//a//b',
      '/a%2Fb%5Cc',
      '/a%25',
      '/%252e%252e/x',
      '/a;..;b',
      '/...',
      '/a..b',
      '/%C3%A9',
      '/a?../b',
      '/a?%zz',
    ]
    for (const path of fine) {
      t.equal((await get(port, path)).status, 200, path)
      t.equal(upstream.requests.at(-1)!.target, path)
    }
  },
)

t.test(
  'on a route with a path list an encoded separator is refused and the rest must match as written',
  async t => {
    const upstream = await openRecorder()
    t.teardown(() => upstream.close())
    const { port } = await openGateway(t, {
      routes: [
        {
          path: '/batch',
          upstream: upstream.origin,
          methods: ['GET'],
          paths: ['/jobs/**', '/pools', '/x/*/y'],
        },
      ],
    })
    const status = async (path: string) => (await get(port, path)).status
    for (const path of ['/batch/jobs', '/batch/jobs/a/b', '/batch/pools?x', '/batch/x/1/y']) {
      t.equal(await status(path), 200, path)
    }
    for (const path of [
      '/batch',
      '/batch/',
      '/batch/poolsx',
      '/batch/pools/',
      '/batch/x/1/2/y',
      '/batch/JOBS',
      '/batch/%6Aobs',
    ]) {
      t.equal(await status(path), 403, path)
    }
    t.equal(await status('/batch/jobs%2F..'), 400)
    t.equal(await status('/batch/jobs%2Fa'), 400)
    const post = await sendRaw(
      port,
      `POST /batch/jobs HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
    )
    t.equal(post.status, 405)
    t.equal(post.headers['allow'], 'GET')
  },
)

t.test('a path belongs to the longest route at a segment boundary, compared as it came', async t => {
  const upstream = await openRecorder()
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, {
    routes: [
      { path: '/batch', upstream: `${upstream.origin}/one` },
      { path: '/batch/inner', upstream: `${upstream.origin}/two` },
    ],
  })
  for (const [path, target] of [
    ['/batch', '/one'],
    ['/batch/', '/one/'],
    ['/batch?x', '/one?x'],
    ['/batch/innerx', '/one/innerx'],
    ['/batch/inner', '/two'],
    ['/batch/inner/a', '/two/a'],
  ] as const) {
    t.equal((await get(port, path)).status, 200, path)
    t.equal(upstream.requests.at(-1)!.target, target)
  }
  for (const path of ['/', '/batchx', '/BATCH', '/%62atch', '/batch%2fx', '/batch;x', '//batch']) {
    const answer = await get(port, path)
    t.equal(answer.status, 404, path)
    t.equal(answer.headers['x-entra-proxy-error'], 'no_route')
  }
  t.match(JSON.parse((await get(port, '/btach/pools')).body), {
    remedy: /\/batch/,
    detail: /\/batch, \/batch\/inner/,
  })
})

t.test('too many or too large headers are 431 and never reach the upstream', async t => {
  const { port, upstream } = await open(t)
  const many = Array.from({ length: 101 }, (_, i) => `x-${i}: 1`)
  t.equal((await get(port, '/', many)).status, 431)
  t.equal(
    (
      await get(
        port,
        '/',
        Array.from({ length: 2_000 }, (_, i) => `x-${i}: 1`),
      )
    ).status,
    431,
  )
  const large = await get(port, '/', [`x-large: ${'a'.repeat(70_000)}`])
  t.equal(large.status, 431)
  t.equal(large.headers['x-entra-proxy-error'], 'headers_too_large')
  t.equal(upstream.requests.length, 0)
  t.equal((await get(port, '/', [`x-large: ${'a'.repeat(60_000)}`])).status, 200)
})

t.test('what is not HTTP gets one coded answer', async t => {
  const { port, upstream } = await open(t)
  for (const bytes of [
    '\x16\x03\x01\x02\x00',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'GET / HTTP/1.1\nHost: x\n\n',
    'nonsense\r\n\r\n',
  ]) {
    const answer = await sendRaw(port, bytes)
    t.equal(answer.status, 400, JSON.stringify(bytes))
    t.equal(answer.headers['x-entra-proxy-error'], 'bad_request_target')
  }
  t.equal(upstream.requests.length, 0)
})

t.test('a configured client key must be presented, in one of three ways, and goes no further', async t => {
  const folder = t.testdir({})
  const key = 'k3y-0123456789abcdef0123456789abcdef'
  writeFileSync(`${folder}/key`, `${key}\n`)
  const { port, upstream, logs } = await open(t, {
    security: {
      allowedHosts: [],
      allowedOrigins: [],
      forwardedRequests: 'reject',
      allowRemote: false,
      clientKey: { file: `${folder}/key` },
    },
  })
  for (const [path, lines] of [
    ['/', []],
    ['/', ['x-entra-proxy-key: wrong']],
    ['/', ['Authorization: Bearer wrong']],
    ['/~wrong/x', []],
    [`/x?key=${key}`, []],
    [`/x/~${key}/`, []],
  ] as const) {
    const answer = await get(port, path, lines)
    t.equal(answer.status, 401, path)
    t.equal(answer.headers['x-entra-proxy-error'], 'client_key_required')
  }
  t.equal(upstream.requests.length, 0)
  for (const [path, lines] of [
    ['/x', [`x-entra-proxy-key: ${key}`]],
    ['/x', [`Authorization: Bearer ${key}`]],
    ['/x', [`Authorization: Basic ${Buffer.from(`user:${key}`).toString('base64')}`]],
    [`/~${key}/x`, []],
  ] as const) {
    t.equal((await get(port, path, lines)).status, 200)
    t.equal(upstream.requests.at(-1)!.target, '/x')
  }
  t.notMatch(upstream.requests.flatMap(request => [request.target, ...request.lines]).join('\n'), key)
  t.notMatch(logs.join('\n'), key)
})
