// Start, health, reload, drain: the gateway as those see it who run it.

import t from 'tap'
import { openGateway, testRoute } from '../helpers/gateway.ts'
import { get } from '../helpers/raw-client.ts'
import { openRecorder } from '../helpers/recorder.ts'
import { openStandinGateway } from '../helpers/standin-gateway.ts'

const ADMIN = { listen: { kind: 'tcp', host: '127.0.0.1', port: 0 }, metrics: true } as const

async function text(url: string): Promise<{ status: number; body: string }> {
  const response = await fetch(url)
  return { status: response.status, body: await response.text() }
}

t.test(
  'alive at once, started when every first token attempt has ended, ready when each route has a token',
  async t => {
    let release = () => {}
    const held = new Promise<void>(resolve => {
      release = resolve
    })
    const { gateway } = await openStandinGateway(t, {
      admin: ADMIN,
      prepare: standin => void standin.faults.entra.set({ kind: 'hold', until: held }),
      awaitFirstTokens: false,
    })
    const admin = gateway.admin!.url
    t.match(await text(`${admin}/livez`), { status: 200, body: 'ok\n' })
    t.match(await text(`${admin}/startupz`), { status: 503, body: 'starting\n' })
    t.match(await text(`${admin}/readyz`), { status: 503 })
    release()
    await gateway.firstTokens
    t.match(await text(`${admin}/startupz`), { status: 200 })
    t.match(await text(`${admin}/readyz`), { status: 200, body: 'ok\n' })
    t.match(await text(`${admin}/readyz?verbose`), {
      status: 200,
      body: /\+ batch {2}token for https:\/\/batch.*expires in \d+ s/,
    })
    t.match(await text(`${admin}/nothing`), { status: 404, body: /readyz/ })
  },
)

t.test('without a token it is started, not ready, and says why', async t => {
  const { gateway } = await openStandinGateway(t, {
    admin: ADMIN,
    prepare: standin => void standin.faults.entra.set({ kind: 'status', status: 503 }),
  })
  const admin = gateway.admin!.url
  t.match(await text(`${admin}/livez`), { status: 200 })
  t.match(await text(`${admin}/startupz`), { status: 200 })
  t.match(await text(`${admin}/readyz?verbose`), {
    status: 503,
    body: /- batch {2}no token for .*\n {4}last error: \S.*fix: \S/,
  })
})

t.test('metrics have the core series, with labels from the configuration only', async t => {
  const upstream = await openRecorder()
  t.teardown(() => upstream.close())
  const { port, gateway } = await openGateway(t, {
    routes: [{ path: '/api', upstream: upstream.origin }],
    admin: ADMIN,
  })
  await get(port, '/api/x')
  await get(port, '/nowhere/secret-path')
  await get(port, '/api', ['Host: evil.example'])
  const { body } = await text(`${gateway.admin!.url}/metrics`)
  t.match(body, 'entra_proxy_http_requests_total{route="api",method="GET",code="200",source="upstream"} 1')
  t.match(body, 'entra_proxy_http_requests_total{route="-",method="GET",code="404",source="gateway"} 1')
  t.match(body, 'entra_proxy_requests_rejected_total{reason="host_not_allowed"} 1')
  t.match(
    body,
    /entra_proxy_token_expiry_timestamp_seconds\{scope="api:\/\/test\/.default",credential="static"\} \d+/,
  )
  t.match(body, 'entra_proxy_http_requests_in_flight 0')
  t.notMatch(body, /secret-path|evil/)
})

t.test('on a drain what is in flight finishes, new connections are refused, readiness is gone', async t => {
  const answers: (() => void)[] = []
  const upstream = await openRecorder(socket =>
    answers.push(() => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone')),
  )
  t.teardown(() => upstream.close())
  const { port, gateway } = await openGateway(t, { routes: [{ upstream: upstream.origin }], admin: ADMIN })
  const admin = gateway.admin!.url
  const slow = get(port, '/slow')
  await upstream.until(() => upstream.requests.length === 1)
  const drained = gateway.drain(30_000)
  t.match(await text(`${admin}/readyz`), { status: 503, body: 'draining\n' })
  t.match(await text(`${admin}/livez`), { status: 200 })
  t.equal((await get(port, '/new')).status, 0, 'the port is closed')
  answers[0]!()
  const answer = await slow
  t.equal(answer.status, 200)
  t.equal(answer.body, 'done')
  t.equal(await drained, true)
})

t.test('a drain that runs out of time cuts what is left and says so', async t => {
  const upstream = await openRecorder(() => {})
  t.teardown(() => upstream.close())
  const { port, gateway } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  const slow = get(port, '/slow')
  await upstream.until(() => upstream.requests.length === 1)
  t.equal(await gateway.drain(50), false)
  t.equal((await slow).status, 0)
  await upstream.until(() => upstream.sockets.size === 0)
})

t.test(
  'a reload swaps the routes, keeps the tokens, and lets running requests finish on the old ones',
  async t => {
    const answers: (() => void)[] = []
    const first = await openRecorder(socket =>
      answers.push(() => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold')),
    )
    const second = await openRecorder()
    t.teardown(() => Promise.all([first.close(), second.close()]))
    const { port, gateway, logs } = await openGateway(t, { routes: [{ path: '/a', upstream: first.origin }] })
    const running = get(port, '/a/slow')
    await first.until(() => first.requests.length === 1)
    const [old] = gateway.config.routes
    const tokenFile = old!.credential.tokenFile!
    gateway.reload({
      ...gateway.config,
      routes: [testRoute({ path: '/b', upstream: second.origin }, tokenFile)],
    })
    t.equal((await get(port, '/a')).status, 404)
    t.equal((await get(port, '/b')).status, 200)
    answers[0]!()
    t.equal((await running).body, 'old')
    t.equal(
      logs.filter(line => line.includes('token acquired')).length,
      1,
      'the cached token serves the new route',
    )
    await first.until(() => first.sockets.size === 0)
  },
)

t.test('the access line says what happened, without secrets', async t => {
  const upstream = await openRecorder(socket =>
    socket.write('HTTP/1.1 404 Not Found\r\nrequest-id: azure-1\r\ncontent-length: 2\r\n\r\nno'),
  )
  t.teardown(() => upstream.close())
  const { port, accessLine } = await openGateway(t, { routes: [{ path: '/api', upstream: upstream.origin }] })
  const answer = await get(port, '/api/x?sig=secret&a=1&code=secret', [
    'User-Agent: legacy/1.0 "quoted"',
    'X: \u2028',
  ])
  const line = await accessLine()
  t.match(line, {
    level: 'info',
    route: 'api',
    method: 'GET',
    path: '/api/x?sig=***&a=1&code=***',
    status: 404,
    source: 'upstream',
    resBytes: 2,
    reqBytes: 0,
    azureRequestId: 'azure-1',
    upstreamHost: `localhost:${upstream.port}`,
    userAgent: 'legacy/1.0 "quoted"',
    reqId: answer.headers['x-entra-proxy-request-id'],
  })
  t.type(line['durationMs'], 'number')
  t.type(line['upstreamMs'], 'number')
})

t.test(
  'an error names its code, its remedy and the request, and only the gateway makes such answers',
  async t => {
    const upstream = await openRecorder(socket =>
      socket.write('HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n'),
    )
    t.teardown(() => upstream.close())
    const { port } = await openGateway(t, { routes: [{ path: '/api', upstream: upstream.origin }] })
    const ours = await get(port, '/nowhere')
    t.equal(ours.headers['content-type'], 'application/problem+json')
    t.equal(ours.headers['x-entra-proxy-error'], 'no_route')
    t.match(JSON.parse(ours.body), {
      type: /no_route/,
      title: /\w/,
      status: 404,
      code: 'no_route',
      detail: /\w/,
      remedy: /\w/,
      requestId: ours.headers['x-entra-proxy-request-id'],
    })
    const theirs = await get(port, '/api')
    t.equal(theirs.status, 502)
    t.equal(theirs.headers['x-entra-proxy-error'], undefined)
    t.ok(theirs.headers['x-entra-proxy-request-id'])
  },
)
