// Bodies pass as streams, both ways, and nobody has to hold more than a few buffers of them.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import t from 'tap'
import { openGateway } from '../helpers/gateway.ts'
import { get } from '../helpers/raw-client.ts'
import { openRecorder } from '../helpers/recorder.ts'

t.test('an upload reaches the upstream before it ends', async t => {
  let seen = 0
  const upstream = await openRecorder(() => {}, {
    answerAt: 'head',
    onBytes: chunk => {
      seen += chunk.length
    },
  })
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  const client = connect(port, '127.0.0.1')
  client.on('error', () => {})
  t.teardown(() => client.destroy())
  client.write(`POST /x HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Length: 3000000\r\n\r\n`)
  client.write(Buffer.alloc(1_000_000, 'a'))
  await upstream.until(() => seen > 1_000_000)
  t.equal(upstream.requests[0]!.header('content-length'), '3000000')
})

t.test('server-sent events arrive one by one, the head before the first', async t => {
  const sends: ((text: string | null) => void)[] = []
  const upstream = await openRecorder(socket => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n')
    sends.push(text => (text === null ? socket.end() : socket.write(text)))
  })
  t.teardown(() => upstream.close())
  const { url } = await openGateway(t, { routes: [{ upstream: upstream.origin, rewriteLinks: 'headers' }] })
  const response = await fetch(url)
  t.equal(response.headers.get('content-type'), 'text/event-stream')
  t.not(response.headers.get('connection'), 'close')
  const reader = response.body!.getReader()
  for (const event of ['data: 1\n\n', 'data: 2\n\n', 'data: 3\n\n']) {
    sends[0]!(event)
    t.equal(Buffer.from((await reader.read()).value!).toString(), event)
  }
  sends[0]!(null)
  t.ok((await reader.read()).done)
})

t.test('a client that reads slowly holds the upstream back', async t => {
  let written = 0
  let stopped = false
  const upstream = await openRecorder(socket => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${2 ** 30}\r\n\r\n`)
    const chunk = Buffer.alloc(65_536)
    const pump = () => {
      while (!stopped && socket.writable) {
        written += chunk.length
        if (!socket.write(chunk)) {
          socket.once('drain', pump)
          return
        }
      }
    }
    pump()
  })
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  const client = connect(port, '127.0.0.1')
  client.on('error', () => {})
  client.write(`GET /x HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`)
  await once(client, 'readable')
  // Nobody reads: what is written settles at what sockets and buffers hold, far below the whole.
  let before = -1
  let settled = 0
  while (settled < 20) {
    await new Promise(resolve => setTimeout(resolve, 20))
    settled = written === before ? settled + 1 : 0
    before = written
  }
  t.ok(written < 64 * 2 ** 20, `${written} bytes`)
  stopped = true
  client.destroy()
  await upstream.until(() => upstream.sockets.size === 0)
})

t.test('many megabytes arrive as sent, in both directions and both framings', async t => {
  const payload = Buffer.from(Array.from({ length: 251 }, (_, i) => i))
    .toString('latin1')
    .repeat(40_000)
  const bytes = Buffer.from(payload, 'latin1')
  const digest = createHash('sha256').update(bytes).digest('hex')
  const upstream = await openRecorder((socket, request) => {
    t.equal(createHash('sha256').update(request.body).digest('hex'), digest)
    if (request.target === '/chunked') {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
      for (let at = 0; at < bytes.length; at += 70_001) {
        const piece = bytes.subarray(at, at + 70_001)
        socket.write(`${piece.length.toString(16)}\r\n`)
        socket.write(piece)
        socket.write('\r\n')
      }
      socket.write('0\r\n\r\n')
      return
    }
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n`)
    socket.write(bytes)
  })
  t.teardown(() => upstream.close())
  const { url } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  for (const path of ['/chunked', '/length']) {
    const body = path === '/chunked' ? Readable.toWeb(Readable.from([bytes])) : bytes
    const response = await fetch(url + path, {
      method: 'POST',
      body: body as Buffer,
      duplex: 'half',
    } as RequestInit)
    const received = Buffer.from(await response.arrayBuffer())
    t.equal(createHash('sha256').update(received).digest('hex'), digest, path)
  }
  t.equal(upstream.requests[0]!.header('transfer-encoding'), 'chunked')
  t.equal(upstream.requests[1]!.header('content-length'), String(bytes.length))
})

for (const [coding, encode] of [
  ['identity', (text: string) => Buffer.from(text)],
  ['gzip', gzipSync],
  ['br', brotliCompressSync],
  ['deflate', deflateSync],
] as const) {
  t.test(`paging links in a JSON body of coding ${coding} lead back here; nothing else changes`, async t => {
    const upstream = await openRecorder((socket, request) => {
      const page = JSON.stringify({
        'odata.metadata': `${origin()}/$metadata#jobs`,
        value: [{ url: `${origin()}/jobs/1`, text: 'ä€😀', big: 1 }],
        'odata.nextLink': `${origin()}/jobs?$skipToken=a%2Fb&api-version=1`,
      })
      const body = encode(page)
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Type: application/json;odata=minimalmetadata\r\nContent-Encoding: ${coding}\r\nContent-Length: ${body.length}\r\nContent-MD5: x\r\nETag: 0x1\r\nLocation: ${origin()}/jobs/2\r\nX-Target: ${request.target}\r\n\r\n`,
      )
      socket.write(body)
    })
    const origin = () => upstream.origin
    t.teardown(() => upstream.close())
    const { url, port } = await openGateway(t, { routes: [{ path: '/batch', upstream: upstream.origin }] })
    const { headers, body } = await get(port, '/batch/jobs', ['Accept-Encoding: gzip, br, deflate, zstd'])
    t.equal(upstream.requests[0]!.header('accept-encoding'), 'gzip, br, deflate')
    t.equal(headers['location'], `${url}/batch/jobs/2`)
    t.equal(headers['etag'], '0x1')
    t.equal(headers['content-md5'], undefined)
    t.equal(headers['content-encoding'], coding === 'identity' ? 'identity' : undefined)
    const text =
      headers['transfer-encoding'] === 'chunked'
        ? body.slice(body.indexOf('\r\n') + 2, body.lastIndexOf('\r\n0\r\n'))
        : body
    const page = JSON.parse(Buffer.from(text, 'latin1').toString()) as Record<string, unknown>
    t.equal(page['odata.nextLink'], `${url}/batch/jobs?$skipToken=a%2Fb&api-version=1`)
    t.equal(page['odata.metadata'], `${upstream.origin}/$metadata#jobs`)
    t.match(page['value'], [{ url: `${upstream.origin}/jobs/1`, text: 'ä€😀' }])
    if (coding === 'identity') t.equal(headers['content-length'], String(Buffer.byteLength(text, 'latin1')))
  })
}

t.test(
  'a file that looks like JSON, and JSON on a route that rewrites headers only, pass untouched',
  async t => {
    const upstream = await openRecorder((socket, request) => {
      const body = JSON.stringify({ nextLink: `http://localhost:${upstream.port}/jobs?page=2` })
      const type = request.target.startsWith('/file') ? 'application/octet-stream' : 'application/json'
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      )
    })
    t.teardown(() => upstream.close())
    const { port } = await openGateway(t, {
      routes: [
        { path: '/all', upstream: upstream.origin },
        { path: '/heads', upstream: `${upstream.origin}/heads`, rewriteLinks: 'headers' },
        { path: '/none', upstream: `${upstream.origin}/none`, rewriteLinks: 'none' },
      ],
    })
    const untouched = JSON.stringify({ nextLink: `${upstream.origin}/jobs?page=2` })
    t.equal((await get(port, '/all/file')).body, untouched)
    t.equal((await get(port, '/heads')).body, untouched)
    t.equal((await get(port, '/none')).body, untouched)
    t.match((await get(port, '/all/json')).body, `http://localhost:${port}/all/jobs?page=2`)
  },
)

t.test('on its own port a route is mounted at /, and links lead back to that port', async t => {
  const upstream = await openRecorder((socket, request) => {
    const body = JSON.stringify({ nextLink: `${upstream.origin}/base/jobs?page=2`, other: 1 })
    socket.write(
      `HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nX-Seen: ${request.target}\r\nLocation: ${upstream.origin}/second/op\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
  })
  t.teardown(() => upstream.close())
  const { port, gateway } = await openGateway(t, {
    routes: [
      {
        path: '/one',
        upstream: `${upstream.origin}/base`,
        listen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      },
      { path: '/two', upstream: `${upstream.origin}/second` },
    ],
  })
  const ownPort = Number(new URL(gateway.ownPorts.get('one')!).port)
  const own = await get(ownPort, '/jobs?x')
  t.equal(own.headers['x-seen'], '/base/jobs?x')
  t.match(own.body, `http://localhost:${ownPort}/jobs?page=2`)
  t.equal(
    own.headers['location'],
    `http://localhost:${port}/two/op`,
    "another route's link leads to the main listener",
  )
  const main = await get(port, '/one/jobs?x')
  t.equal(main.headers['x-seen'], '/base/jobs?x')
  t.match(main.body, `http://localhost:${port}/one/jobs?page=2`)
})
