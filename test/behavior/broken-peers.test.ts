// Peers that break off, refuse, stall or leave: the coded answer, a cut that can be seen, and nothing
// left behind.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { openGateway, type RouteOverrides } from '../helpers/gateway.ts'
import { get, sendRaw } from '../helpers/raw-client.ts'
import { openRecorder, type Recorder, type RecorderOptions, type Script } from '../helpers/recorder.ts'

async function open(
  t: Test,
  script?: Script,
  options: RecorderOptions = {},
  route: Partial<RouteOverrides> = {},
) {
  const upstream = await openRecorder(script, options)
  t.teardown(() => upstream.close())
  const gateway = await openGateway(t, { routes: [{ upstream: upstream.origin, ...route }] })
  return { ...gateway, upstream }
}

async function code(
  answer: Promise<{ status: number; headers: Readonly<Record<string, string>>; body: string }>,
) {
  const { status, headers, body } = await answer
  const problem = JSON.parse(body) as { code: string; remedy: string }
  return { status, header: headers['x-entra-proxy-error'], code: problem.code, remedy: problem.remedy }
}

t.test('an upstream that refuses the connection is 502 upstream_unreachable', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port: freed } = server.address() as { port: number }
  server.close()
  const { port } = await openGateway(t, { routes: [{ upstream: `http://127.0.0.1:${freed}` }] })
  const answer = await code(get(port, '/'))
  t.match(answer, {
    status: 502,
    header: 'upstream_unreachable',
    code: 'upstream_unreachable',
    remedy: /upstream URL/,
  })
})

t.test('an upstream whose name does not resolve is 502 upstream_unreachable', async t => {
  const { port } = await openGateway(t, { routes: [{ upstream: 'https://no-such-host.invalid' }] })
  t.match(await code(get(port, '/')), { status: 502, code: 'upstream_unreachable' })
})

t.test(
  'an upstream that resets before its answer is 502 upstream_reset, and a POST is not repeated',
  async t => {
    const { port, upstream } = await open(t, socket => socket.resetAndDestroy())
    const answer = await code(
      sendRaw(
        port,
        `POST / HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi`,
      ),
    )
    t.match(answer, { status: 502, code: 'upstream_reset' })
    t.equal(upstream.requests.length, 1)
  },
)

t.test(
  'a fresh connection that dies is not retried; a kept one that dies is, once, for idempotent methods',
  async t => {
    // Every second request on a connection kills it, as a peer does whose idle timeout strikes just then.
    const perConnection = new Map<number, number>()
    const { port, upstream } = await open(t, (socket, request) => {
      const nth = (perConnection.get(request.connection) ?? 0) + 1
      perConnection.set(request.connection, nth)
      if (request.target === '/die' || nth > 1) socket.destroy()
      else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    })
    t.match(await code(get(port, '/die')), { status: 502, code: 'upstream_reset' })
    t.equal(upstream.requests.length, 1)

    t.equal((await get(port, '/a')).status, 200)
    t.equal((await get(port, '/b')).status, 200)
    t.same(
      upstream.requests.map(request => request.target),
      ['/die', '/a', '/b', '/b'],
    )

    // A POST may land on a connection of either kind; whatever becomes of it, it is sent once.
    const statuses: number[] = []
    while (!statuses.includes(502)) {
      const post = `POST /c HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`
      const answer = await sendRaw(port, post)
      if (answer.status !== 200) t.equal(answer.headers['x-entra-proxy-error'], 'upstream_reset')
      statuses.push(answer.status)
    }
    t.equal(upstream.requests.filter(request => request.target === '/c').length, statuses.length)
  },
)

t.test('an upstream that never answers is 504, and its connection is closed', async t => {
  const { port, upstream } = await open(
    t,
    () => {},
    {},
    { timeouts: { connectMs: 1_000, responseMs: 300, idleMs: 300 } },
  )
  t.match(await code(get(port, '/')), { status: 504, code: 'upstream_timeout', remedy: /timeouts\.response/ })
  await upstream.until(() => upstream.sockets.size === 0)
})

for (const [name, bytes] of [
  ['nonsense', 'nonsense\r\n\r\n'],
  ['an unasked 101', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
  ['two Content-Lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
  [
    'Content-Length and Transfer-Encoding',
    'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['a head of 100 KB', `HTTP/1.1 200 OK\r\nx: ${'a'.repeat(100_000)}\r\n\r\n`],
] as const) {
  t.test(`an upstream that answers ${name} is 502`, async t => {
    const { port } = await open(t, socket => socket.write(bytes))
    const answer = await get(port, '/')
    t.equal(answer.status, 502)
    t.match(answer.headers['x-entra-proxy-error'], /^upstream_(protocol|reset)$/)
  })
}

t.test(
  'a body broken from its first byte is an error or a body without an end, never a clean answer',
  async t => {
    const { port, accessLine } = await open(t, socket =>
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'),
    )
    const answer = await get(port, '/')
    if (answer.status === 200) t.notMatch(answer.body, /0\r\n\r\n/)
    else t.equal(answer.status, 502)
    t.match(await accessLine(), answer.status === 200 ? { cut: true } : { code: /^upstream_/ })
  },
)

for (const [name, line] of [
  ['bytes outside ASCII', 'HTTP/1.1 200 d\u00e9j\u00e0 vu'],
  ['UTF-8', `HTTP/1.1 200 ${Buffer.from('sch\u00f6n \u2603').toString('latin1')}`],
] as const) {
  t.test(`a reason phrase with ${name} does not end the process`, async t => {
    for (const body of ['Content-Length: 2\r\n\r\nok', 'Transfer-Encoding: chunked\r\n\r\n']) {
      const { port, gateway } = await open(t, socket => {
        socket.write(`${line}\r\n${body}`, 'latin1')
        if (body.startsWith('Transfer')) setTimeout(() => socket.write('2\r\nok\r\n0\r\n\r\n'), 20)
      })
      t.equal((await get(port, '/')).status, 200)
      t.equal(gateway.inFlight(), 0)
    }
  })
}

for (const framing of ['content-length', 'chunked'] as const) {
  for (const end of ['FIN', 'RST'] as const) {
    t.test(`a ${framing} body that ends in ${end} is a broken body for the client too`, async t => {
      const head =
        framing === 'chunked'
          ? 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n'
          : 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello'
      let cut = () => {}
      const { url, port, gateway, accessLine } = await open(t, (socket, request) => {
        socket.write(request.target === '/again' ? 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n' : head)
        cut = () => (end === 'RST' ? socket.resetAndDestroy() : socket.end())
      })
      const response = await fetch(`${url}/x`)
      t.equal(response.status, 200)
      const reader = response.body!.getReader()
      t.equal(Buffer.from((await reader.read()).value!).toString(), 'hello')
      cut()
      await t.rejects(reader.read())
      t.match(await accessLine(), { status: 200, cut: true })
      t.equal(gateway.inFlight(), 0)
      t.equal((await get(port, '/again')).status, 200, 'the gateway goes on')
    })
  }
}

const PHASES: Record<
  string,
  { script: Script; answerAt: 'head' | 'body'; send: (port: number) => string; seen: RegExp | undefined }
> = {
  'while it waits for headers': {
    script: () => {},
    answerAt: 'body',
    send: port => `GET /x HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`,
    seen: undefined,
  },
  'in the middle of a download': {
    script: socket => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello'),
    answerAt: 'body',
    send: port => `GET /x HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`,
    seen: /hello/,
  },
  'in the middle of an upload': {
    script: () => {},
    answerAt: 'head',
    send: port => `POST /x HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Length: 1000\r\n\r\nhello`,
    seen: undefined,
  },
}

for (const [phase, { script, answerAt, send, seen }] of Object.entries(PHASES)) {
  t.test(`a client that leaves ${phase} takes its upstream connection with it`, async t => {
    const { port, gateway, upstream, accessLine } = await open(t, script, { answerAt })
    const client = connect(port, '127.0.0.1')
    client.on('error', () => {})
    client.write(send(port))
    await upstream.until(() => upstream.requests.length === 1)
    if (seen !== undefined) {
      let text = ''
      for await (const chunk of client.iterator({ destroyOnReturn: false })) {
        text += chunk
        if (seen.test(text)) break
      }
    }
    t.equal(upstream.sockets.size, 1)
    client.destroy()
    await upstream.until(() => upstream.sockets.size === 0)
    t.match(await accessLine(), { aborted: true })
    t.equal(gateway.inFlight(), 0)
  })
}

t.test('an upstream that answers before the upload ends stops the upload and its answer arrives', async t => {
  const { port, upstream } = await open(
    t,
    socket => socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig'),
    { answerAt: 'head' },
  )
  const answer = await sendRaw(
    port,
    `POST /x HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Length: 5000000\r\n\r\n${'a'.repeat(100_000)}`,
  )
  t.equal(answer.status, 413)
  t.equal(answer.body, 'big')
  t.equal(answer.headers['connection'], 'close')
  t.equal(upstream.requests.length, 1)
})

t.test('a body over the limit of its route is 413, announced or not', async t => {
  const { port, upstream } = await open(
    t,
    undefined,
    { answerAt: 'head' },
    { limits: { maxConcurrent: 9, maxQueue: 9, queueTimeoutMs: 1_000, maxBodyBytes: 10 } },
  )
  const send = (framing: string) =>
    code(sendRaw(port, `POST /x HTTP/1.1\r\nHost: localhost:${port}\r\nConnection: close\r\n${framing}`))
  t.match(await send(`Content-Length: 11\r\n\r\n${'a'.repeat(11)}`), { status: 413, code: 'body_too_large' })
  t.equal(upstream.requests.length, 0)
  upstream.requests.length = 0
  const chunked = `Transfer-Encoding: chunked\r\n\r\n6\r\naaaaaa\r\n6\r\naaaaaa\r\n0\r\n\r\n`
  t.match(await send(chunked), { status: 413, code: 'body_too_large' })
})

t.test(
  'beyond its places and its queue a route answers overloaded, and goes on when a place is free',
  async t => {
    const answers: (() => void)[] = []
    const { port, upstream } = await open(
      t,
      socket => answers.push(() => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')),
      {},
      { limits: { maxConcurrent: 1, maxQueue: 1, queueTimeoutMs: 10_000, maxBodyBytes: 10 } },
    )
    const first = get(port, '/1')
    await upstream.until(() => upstream.requests.length === 1)
    // Of two more one finds a place in the queue, and the other is refused at once.
    const others = [get(port, '/2'), get(port, '/3')]
    const refused = await Promise.race(others)
    t.equal(refused.status, 503)
    t.equal(refused.headers['x-entra-proxy-error'], 'overloaded')
    t.equal(refused.headers['retry-after'], '1')
    t.equal(upstream.requests.length, 1)
    answers.shift()!()
    t.equal((await first).status, 200)
    await upstream.until(() => upstream.requests.length === 2)
    answers.shift()!()
    t.same((await Promise.all(others)).map(answer => answer.status).sort(), [200, 503])
  },
)

t.test('a hundred requests that cannot be sent leave the route working', async t => {
  const { port, upstream } = await open(t)
  for (let i = 0; i < 100; i++) {
    await get(port, '/x', [
      'Keep-Alive: timeout=5',
      'Transfer-Encoding: identity',
      'Upgrade: h2c',
      'Expect: 100-continue',
    ])
  }
  t.equal((await get(port, '/good')).status, 200)
  t.equal(upstream.requests.at(-1)!.target, '/good')
})

function sizes(recorder: Recorder): number {
  return recorder.sockets.size
}

t.test('a thousand aborts leave no upstream connection', async t => {
  const { port, gateway, upstream } = await open(t, () => {})
  for (let round = 0; round < 20; round++) {
    const clients = Array.from({ length: 50 }, () => {
      const client = connect(port, '127.0.0.1')
      client.on('error', () => {})
      client.write(`GET /${round} HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`)
      return client
    })
    await upstream.until(() => upstream.requests.length === (round + 1) * 50)
    for (const client of clients) client.destroy()
    await upstream.until(() => sizes(upstream) === 0)
  }
  t.equal(gateway.inFlight(), 0)
  t.equal(sizes(upstream), 0)
})
