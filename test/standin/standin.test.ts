import { createHash } from 'node:crypto'
import { createServer } from 'node:net'
import t from 'tap'
import { patternBytes, startStandin } from '../../src/standin/standin.ts'
import { API_VERSION, openStandin } from '../helpers/standin-client.ts'

t.test('everything listens on loopback under its own origin; only IMDS speaks plain HTTP', async t => {
  const { standin, send } = await openStandin(t)
  for (const server of [standin.entra, standin.batch, standin.mlOnline, standin.mlBatch]) {
    t.equal(server.url, `https://localhost:${server.port}`)
  }
  t.equal(standin.imds.url, `http://127.0.0.1:${standin.imds.port}`)
  t.match(standin.batch, {
    hostname: 'localhost',
    audience: 'https://batch.core.windows.net/',
    scope: 'https://batch.core.windows.net//.default',
  })
  t.match(standin.mlOnline, { audience: 'https://ml.azure.com', scope: 'https://ml.azure.com/.default' })
  for (const host of ['localhost', '127.0.0.1']) {
    const answer = await send(`https://${host}:${standin.batch.port}/jobs?${API_VERSION}`)
    t.equal(answer.status, 401, host)
  }
})

t.test('two stand-ins share nothing: no key, no name, no port', async t => {
  const [one, two] = [await openStandin(t), await openStandin(t)]
  for (const name of ['caPem', 'tenantId', 'clientId', 'clientSecret'] as const) {
    t.not(one.standin[name], two.standin[name], name)
  }
  const headers = { authorization: `Bearer ${await one.token(one.standin.batch.scope)}` }
  t.equal((await two.send(`${two.standin.batch.url}/~standin/echo`, { headers })).status, 401)
})

t.test(
  'a port that is given is used, and one that is taken is an error that leaves nothing open',
  async t => {
    const taken = createServer()
    await new Promise<void>(resolve => taken.listen(0, '127.0.0.1', resolve))
    const { port } = taken.address() as { port: number }
    await t.rejects(startStandin({ host: '127.0.0.1', ports: { batch: port } }), { code: 'EADDRINUSE' })
    await new Promise(resolve => taken.close(resolve))
    const standin = await startStandin({ host: '127.0.0.1', ports: { batch: port } })
    t.equal(standin.batch.url, `https://127.0.0.1:${port}`)
    await standin.close()
  },
)

t.test('echo shows what came in, the token as its claims', async t => {
  const { standin, send, bearer } = await openStandin(t)
  const { batch } = standin
  const target = "/~standin/echo/a%2Fb//c%5C(d=1,e=2)'?q=%20&$x=1"
  const answer = await send(`${batch.url}${target}`, {
    method: 'POST',
    headers: { ...(await bearer(batch.scope)), 'X-Odd-Case': 'kept' },
    body: 'hello',
  })
  const { method, url, rawHeaders, bytes, sha256 } = answer.json()
  t.same({ method, url, bytes }, { method: 'POST', url: target, bytes: 5 })
  t.equal(sha256, createHash('sha256').update('hello').digest('hex'))
  t.equal(rawHeaders[rawHeaders.indexOf('X-Odd-Case') + 1], 'kept')
  const shown = rawHeaders[rawHeaders.indexOf('authorization') + 1]
  t.match(JSON.parse(shown.slice('Bearer '.length)), { aud: batch.audience, appid: standin.clientId })
})

t.test('bytes, sink and status move and answer what they are asked to', async t => {
  const { standin, send, bearer } = await openStandin(t)
  const headers = await bearer(standin.mlOnline.scope)
  const base = `${standin.mlOnline.url}/~standin`
  const hash = createHash('sha256')
  for await (const piece of patternBytes(0, 300_000)) hash.update(piece)
  const expected = hash.digest('hex')

  const sized = await send(`${base}/bytes/300000`, { headers })
  const chunked = await send(`${base}/bytes/300000?chunked`, { headers })
  t.equal(sized.headers['content-length'], '300000')
  t.equal(chunked.headers['content-length'], undefined)
  for (const { bytes } of [sized, chunked])
    t.equal(createHash('sha256').update(bytes).digest('hex'), expected)
  t.same(
    [sized.bytes[0], sized.bytes[250], sized.bytes[251], sized.bytes[299_999]],
    [0, 250, 0, 299_999 % 251],
  )

  const sunk = await send(`${base}/sink`, { method: 'PUT', headers, body: 'x'.repeat(200_000) })
  t.match(sunk.json(), { bytes: 200_000 })
  t.equal(standin.mlOnline.requests.at(-1)?.bytesIn, 200_000)
  t.same([(await send(`${base}/status/418`, { headers })).status], [418])
  t.equal((await send(`${base}/status/204`, { headers })).text, '')
  t.equal((await send(`${base}/other`, { headers })).status, 404)
  t.equal((await send(`${base}/echo`)).status, 401, 'the scratch area wants a token too')
})

t.test('the log keeps what was seen, and no token', async t => {
  const { standin, send, token } = await openStandin(t)
  const { batch } = standin
  const value = await token(batch.scope)
  await send(`${batch.url}/jobs/none?${API_VERSION}`, {
    headers: { authorization: `Bearer ${value}`, cookie: 'c=1' },
  })
  await batch.waitForIdle()
  const [entry] = batch.requests
  t.match(entry, {
    id: 1,
    method: 'GET',
    url: `/jobs/none?${API_VERSION}`,
    status: 404,
    state: 'ended',
    aborted: false,
    token: { aud: batch.audience, appid: standin.clientId },
    headers: { cookie: '(hidden)', host: `localhost:${batch.port}` },
  })
  t.equal(entry?.jti, entry?.token?.jti)
  t.ok(entry!.bytesOut > 100)
  t.notMatch(JSON.stringify(entry), value.split('.')[1]!)
  t.match(batch.counters, { requests: 1, statuses: { 404: 1 }, openSockets: 1, acceptedSockets: 1 })
})

t.test('the log is bounded; the counters are not', async t => {
  const { standin, send } = await openStandin(t, { requestLogLimit: 2 })
  for (const path of ['/1', '/2', '/3']) await send(`${standin.batch.url}${path}`)
  t.same(
    standin.batch.requests.map(({ url }) => url),
    ['/2', '/3'],
  )
  t.equal(standin.batch.counters.requests, 3)
})

t.test('one waits for a request, for its end, and for rest', async t => {
  const { standin, send } = await openStandin(t)
  const { batch, faults } = standin
  let release = () => {}
  faults.batch.next({ kind: 'hold', until: new Promise<void>(resolve => (release = resolve)) })
  const later = batch.waitForRequest(({ url }) => url === '/later')
  const ended = batch.waitForRequest(({ url, state }) => url === '/later' && state === 'ended')
  const answer = send(`${batch.url}/later`)
  const entry = await later
  t.equal(entry.state, 'open')
  const idle = batch.waitForIdle()
  release()
  t.equal(await ended, entry)
  await idle
  t.equal((await answer).status, 400)
  t.equal(await batch.waitForRequest(({ id }) => id === 1), entry, 'one that has been is found as well')
  await t.rejects(
    batch.waitUntil(() => {
      throw new Error('the test is wrong')
    }),
    { message: 'the test is wrong' },
  )
})

t.test('reset brings back the state after the start; tokens stay good', async t => {
  const { standin, send, bearer } = await openStandin(t, { jobs: 3 })
  const { batch, faults, entra } = standin
  const headers = await bearer(batch.scope)
  const jobs = async () =>
    (await send(`${batch.url}/jobs?${API_VERSION}`, { headers })).json()['value'].length
  await send(`${batch.url}/jobs/job-00001?${API_VERSION}`, { method: 'DELETE', headers })
  t.equal(await jobs(), 2)
  faults.batch.set({ kind: 'status', status: 503 })
  faults.batch.revokeAll()
  faults.entra.presentCertificate('expired')
  await faults.imds.refuseConnections()

  await standin.reset()
  t.match([batch.requests.length, batch.counters.requests, entra.counters.tokenRequests], [0, 0, {}])
  t.equal(await jobs(), 3)
  t.equal((await send(`${standin.imds.url}/metadata`, { fresh: true })).status, 404)
  t.equal((await send(entra.url, { fresh: true })).status, 404)
})

t.test('close ends at once, with requests open and connections idle', async t => {
  const { standin, send } = await openStandin(t)
  standin.faults.batch.next({ kind: 'silent' })
  await send(`${standin.entra.url}/idle`)
  const cut = send(`${standin.batch.url}/open`).then(
    () => 'answered',
    (error: NodeJS.ErrnoException) => error.code,
  )
  await standin.batch.waitForRequest(() => true)
  await standin.close()
  t.equal(await cut, 'ECONNRESET')
  t.equal(standin.entra.counters.openSockets, 0)
  await standin.close()
})
