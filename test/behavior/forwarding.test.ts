import t from 'tap'
import { CANARY_TOKEN, openGateway } from '../helpers/gateway.ts'
import { get, sendRaw } from '../helpers/raw-client.ts'
import { openRecorder } from '../helpers/recorder.ts'

t.test('forwards method, path, query and headers as they came, and adds the token', async t => {
  const upstream = await openRecorder()
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, { routes: [{ path: '/api', upstream: `${upstream.origin}/base` }] })

  const target = "/api/jobs//x%2Fy%5Cz/(a=b,c=d)?$filter=id%20eq%20'a'&a=1;b=2&a=&&x=%zz"
  const answer = await get(port, target, ['X-Custom: One', 'x-custom: two', 'Accept: */*'])
  t.equal(answer.status, 200)
  t.equal(answer.body, 'ok')

  const [request] = upstream.requests
  t.equal(request!.method, 'GET')
  t.equal(request!.target, target.replace('/api', '/base'))
  t.equal(request!.header('authorization'), `Bearer ${CANARY_TOKEN}`)
  t.equal(request!.header('host'), `localhost:${upstream.port}`)
  t.strictSame(
    request!.lines.filter(line => /^(x-custom|accept)/i.test(line)),
    ['X-Custom: One', 'x-custom: two', 'Accept: */*'],
  )
})

t.test(
  "the client's own credentials and hop-by-hop headers never go upstream, and cannot take ours away",
  async t => {
    const upstream = await openRecorder()
    t.teardown(() => upstream.close())
    const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
    const answer = await sendRaw(
      port,
      [
        'GET /x HTTP/1.1',
        `Host: localhost:${port}`,
        'Authorization: SharedKey acct:c2VjcmV0',
        'AUTHORIZATION: Bearer stolen',
        'Proxy-Authorization: Basic eDp5',
        'Cookie: a=b',
        'TE: trailers',
        'Keep-Alive: timeout=5',
        'X-Drop-Me: 1',
        'X-Keep-Me: 1',
        'X-MS-CLIENT-PRINCIPAL-ID: me',
        'X-MS-TOKEN-AAD-ACCESS-TOKEN: me',
        'x-ms-version: 2020-01-01',
        'Connection: close, Authorization, X-Drop-Me',
        '',
        '',
      ].join('\r\n'),
    )
    t.equal(answer.status, 200)
    const [request] = upstream.requests
    const names = request!.lines.map(line => line.split(':', 1)[0]!.toLowerCase())
    t.equal(names.filter(name => name === 'authorization').length, 1)
    t.equal(request!.header('authorization'), `Bearer ${CANARY_TOKEN}`)
    for (const gone of [
      'proxy-authorization',
      'cookie',
      'te',
      'keep-alive',
      'x-drop-me',
      'x-ms-client-principal-id',
    ]) {
      t.notOk(names.includes(gone), gone)
    }
    t.ok(names.includes('x-keep-me'))
    t.ok(names.includes('x-ms-version'))
    t.notMatch(request!.lines.join('\n'), /SharedKey|stolen/)
  },
)

t.test(
  'upstream headers come back with order, case and repeats; its connection and cookies do not',
  async t => {
    const upstream = await openRecorder(socket =>
      socket.write(
        [
          'HTTP/1.1 200 Fine',
          'ETag: 0x8D890AA7A5303E1',
          'X-Content-Type-Options: nosniff',
          'x-content-type-options: nosniff',
          'Date: Tue, 24 Nov 2020 23:06:14 GMT',
          'Set-Cookie: a=b',
          'Strict-Transport-Security: max-age=1',
          'Alt-Svc: h3=":443"',
          'X-Hop: 1',
          'x-entra-proxy-error: forged',
          'WWW-Authenticate: Bearer realm="x"',
          'Connection: keep-alive, X-Hop',
          'Content-Length: 0',
          '',
          '',
        ].join('\r\n'),
      ),
    )
    t.teardown(() => upstream.close())
    const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
    const { text, status, headers } = await get(port, '/')
    t.equal(status, 200)
    t.match(text, /^HTTP\/1\.1 200 Fine\r\n/)
    t.match(
      text,
      /ETag: 0x8D890AA7A5303E1\r\nX-Content-Type-Options: nosniff\r\nx-content-type-options: nosniff\r\nDate: Tue, 24 Nov 2020 23:06:14 GMT\r\nWWW-Authenticate: Bearer realm="x"\r\nContent-Length: 0\r\n/,
    )
    t.match(headers['x-entra-proxy-request-id'], /^[0-9a-f-]{36}$/)
    t.notMatch(text, /set-cookie|strict-transport|alt-svc|x-hop|forged/i)
  },
)

for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
  t.test(`${method} with Content-Type and no body passes`, async t => {
    const upstream = await openRecorder((socket, request) =>
      socket.write(`HTTP/1.1 202 Accepted\r\ncontent-length: ${request.method === 'HEAD' ? 7 : 0}\r\n\r\n`),
    )
    t.teardown(() => upstream.close())
    const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
    const answer = await sendRaw(
      port,
      `${method} /jobs/1 HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Type: application/json; odata=minimalmetadata\r\nConnection: close\r\n\r\n`,
    )
    t.equal(answer.status, 202)
    t.equal(upstream.requests[0]!.method, method)
    t.equal(upstream.requests[0]!.header('content-type'), 'application/json; odata=minimalmetadata')
    if (method === 'HEAD') t.equal(answer.headers['content-length'], '7')
  })
}

for (const framing of ['content-length', 'chunked'] as const) {
  for (const method of ['GET', 'POST', 'DELETE', 'OPTIONS']) {
    t.test(
      `a ${method} body with ${framing} arrives as sent, and nothing behind it is taken for a request`,
      async t => {
        const upstream = await openRecorder()
        t.teardown(() => upstream.close())
        const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
        const body = 'GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n'
        const framed =
          framing === 'chunked'
            ? `Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
            : `Content-Length: ${body.length}\r\n\r\n${body}`
        const answer = await sendRaw(
          port,
          `${method} /x HTTP/1.1\r\nHost: localhost:${port}\r\nConnection: close\r\n${framed}`,
        )
        t.equal(answer.status, 200)
        t.equal(upstream.requests.length, 1)
        t.equal(upstream.requests[0]!.body.toString(), body)
      },
    )
  }
}

t.test(
  'a request head with Expect: 100-continue gets 100, and the token goes upstream without it',
  async t => {
    const upstream = await openRecorder()
    t.teardown(() => upstream.close())
    const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
    const answer = await sendRaw(
      port,
      `POST /x HTTP/1.1\r\nHost: localhost:${port}\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc`,
    )
    t.match(answer.text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200/)
    t.equal(upstream.requests[0]!.header('expect'), undefined)
    t.equal(upstream.requests[0]!.header('authorization'), `Bearer ${CANARY_TOKEN}`)
  },
)

t.test('a 304 with a Content-Length and an interim 103 are passed on right', async t => {
  const upstream = await openRecorder((socket, request) =>
    socket.write(
      request.target === '/304'
        ? 'HTTP/1.1 304 Not Modified\r\nETag: 0x1\r\nContent-Length: 42\r\n\r\n'
        : 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    ),
  )
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  const notModified = await get(port, '/304')
  t.equal(notModified.status, 304)
  t.equal(notModified.headers['etag'], '0x1')
  t.equal(notModified.body, '')
  const final = await get(port, '/103')
  t.equal(final.status, 200)
  t.equal(final.body, 'ok')
})

t.test('redirects are passed on, not followed', async t => {
  const other = await openRecorder()
  t.teardown(() => other.close())
  const upstream = await openRecorder(socket =>
    socket.write(`HTTP/1.1 307 Moved\r\nLocation: ${other.origin}/x\r\nContent-Length: 0\r\n\r\n`),
  )
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  const answer = await get(port, '/')
  t.equal(answer.status, 307)
  t.equal(answer.headers['location'], `${other.origin}/x`)
  t.equal(other.connections, 0)
})

t.test('request ids are made when the client sent none, and kept when it did', async t => {
  const upstream = await openRecorder()
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, {
    routes: [
      { path: '/batch', upstream: upstream.origin, preset: 'batch' },
      { path: '/ml', upstream: upstream.origin },
    ],
  })
  const made = await get(port, '/batch')
  t.equal(upstream.requests[0]!.header('client-request-id'), made.headers['x-entra-proxy-request-id'])
  t.equal(upstream.requests[0]!.header('return-client-request-id'), 'true')
  await get(port, '/batch', ['client-request-id: mine'])
  t.equal(upstream.requests[1]!.header('client-request-id'), 'mine')
  t.equal(upstream.requests[1]!.header('return-client-request-id'), undefined)
  await get(port, '/ml')
  t.match(upstream.requests[2]!.header('x-ms-client-request-id'), /^[0-9a-f-]{36}$/)
})

t.test('a configured query pair is added only when the client sent none', async t => {
  const upstream = await openRecorder()
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, {
    routes: [{ upstream: upstream.origin, query: { 'api-version': '2024-07-01.20.0' } }],
  })
  for (const [sent, got] of [
    ['/jobs', '/jobs?api-version=2024-07-01.20.0'],
    ['/jobs?', '/jobs?api-version=2024-07-01.20.0'],
    ['/jobs?a=1', '/jobs?a=1&api-version=2024-07-01.20.0'],
    ['/jobs?API-Version=x', '/jobs?API-Version=x'],
    ['/jobs?a=1&api-version=', '/jobs?a=1&api-version='],
  ] as const) {
    await get(port, sent)
    t.equal(upstream.requests.at(-1)!.target, got)
  }
})
