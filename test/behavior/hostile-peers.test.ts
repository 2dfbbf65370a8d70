// Peers at their worst moments: each of these once ended the process, held a place for ever, or kept a
// stop from ending.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { openGateway } from '../helpers/gateway.ts'
import { get, sendRaw } from '../helpers/raw-client.ts'
import { openRecorder } from '../helpers/recorder.ts'
import { openStandinGateway } from '../helpers/standin-gateway.ts'

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'

async function dial(port: number, text: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(text)
  return socket
}

t.test('a client that leaves while its upload waits in the queue leaves nothing behind', async t => {
  const answers: (() => void)[] = []
  const upstream = await openRecorder(socket => answers.push(() => socket.write(OK)))
  t.teardown(() => upstream.close())
  const limits = { maxConcurrent: 1, maxQueue: 5, queueTimeoutMs: 60_000, maxBodyBytes: 1_000 }
  const { port, gateway, accessLine } = await openGateway(t, {
    routes: [{ upstream: upstream.origin, limits }],
  })
  const first = get(port, '/first')
  await upstream.until(() => upstream.requests.length === 1)
  const leaver = await dial(
    port,
    `POST /leaver HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Length: 9\r\n\r\nabc`,
  )
  while (gateway.inFlight() < 2) await new Promise(setImmediate)
  leaver.destroy()
  t.match(await accessLine(line => line['path'] === '/leaver'), { aborted: true })
  answers[0]!()
  t.equal((await first).status, 200)
  t.equal(gateway.inFlight(), 0)
  t.equal(upstream.requests.length, 1)
})

t.test(
  'without a token, a client that leaves during its upload, or sends too much, ends nothing',
  async t => {
    const limits = { maxConcurrent: 9, maxQueue: 9, queueTimeoutMs: 1_000, maxBodyBytes: 10 }
    const { port, url } = await openStandinGateway(t, {
      batch: { limits },
      prepare: standin => void standin.faults.entra.set({ kind: 'status', status: 503 }),
    })
    const head = `POST /batch/x HTTP/1.1\r\nHost: localhost:${port}\r\n`
    const leaver = await dial(port, `${head}Content-Length: 9\r\n\r\nabc`)
    await once(leaver, 'data')
    leaver.destroy()
    const much = `${head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n${'x'.repeat(20)}\r\n0\r\n\r\n`
    t.equal((await sendRaw(port, much)).status, 503)
    t.equal((await fetch(`${url}/batch/jobs`)).status, 503)
  },
)

t.test('pipelined requests that are abandoned give their places back', async t => {
  const upstream = await openRecorder(() => {})
  t.teardown(() => upstream.close())
  const { port, gateway } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  const client = await dial(port, `GET /x HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`.repeat(3))
  await upstream.until(() => upstream.requests.length === 3)
  client.destroy()
  await upstream.until(() => upstream.sockets.size === 0)
  t.equal(gateway.inFlight(), 0)
})

for (const how of ['end', 'resetAndDestroy'] as const) {
  t.test(`a 401 whose connection then dies (${how}) is still a 401`, async t => {
    const upstream = await openRecorder(socket => {
      socket.write('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 5\r\n\r\nnope!')
      setImmediate(() => socket[how]())
    })
    t.teardown(() => upstream.close())
    const { port, gateway } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
    for (const request of ['GET /x HTTP/1.1\r\n', 'POST /x HTTP/1.1\r\nContent-Length: 2\r\n']) {
      const answer = await sendRaw(
        port,
        `${request}Host: localhost:${port}\r\nConnection: close\r\n\r\n${request.startsWith('P') ? 'hi' : ''}`,
      )
      t.equal(answer.status, 401)
      t.equal(answer.body, 'nope!')
    }
    t.equal(gateway.inFlight(), 0)
  })
}

t.test('a drain does not wait for connections that ask nothing', async t => {
  const answers: (() => void)[] = []
  const upstream = await openRecorder(socket => answers.push(() => socket.write(OK)))
  t.teardown(() => upstream.close())
  const { port, gateway } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  const silent = await dial(port, '')
  const refused = await dial(port, 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n')
  await once(refused, 'data')
  const busy = await dial(port, `GET /x HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`)
  await upstream.until(() => upstream.requests.length === 1)
  const drained = gateway.drain(3_600_000)
  const [answer] = await Promise.all([once(busy, 'data'), answers[0]!()])
  t.match(String(answer[0]), /^HTTP\/1\.1 200/)
  t.equal(await drained, true)
  for (const socket of [silent, refused, busy]) if (!socket.closed) await once(socket.resume(), 'close')
})

t.test('garbage behind a request is not written into its answer', async t => {
  const upstream = await openRecorder(socket =>
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nfirst'),
  )
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  const client = await dial(port, `GET /x HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`)
  let text = ''
  client.on('data', chunk => {
    text += chunk
  })
  while (!text.includes('first')) await once(client, 'data')
  client.write('garbage\r\n\r\n')
  await once(client, 'close')
  t.ok(text.endsWith('first'), text)
})

t.test('an upstream that resets while a slow client holds its answer back ends that answer only', async t => {
  const total = 64 * 2 ** 20
  let written = 0
  const upstream = await openRecorder(socket => {
    socket.write(`HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ${total}\r\n\r\n`)
    const chunk = Buffer.alloc(65_536)
    const pump = () => {
      while (socket.writable && written < total) {
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
  const { port, gateway, accessLine } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  const client = await dial(port, `GET /x HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`)
  await once(client, 'readable')
  let before = -1
  for (let settled = 0; settled < 10; settled = written === before ? settled + 1 : 0) {
    before = written
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  for (const socket of upstream.sockets) socket.resetAndDestroy()
  client.resume()
  await once(client, 'close')
  t.match(await accessLine(), { cut: true })
  t.equal(gateway.inFlight(), 0)
})
