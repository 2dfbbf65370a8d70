// The token's life as a client lives it: cold starts, 401s, outages. The real identity library against
// the stand-in's Entra.

import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import t from 'tap'
import { openStandinGateway } from '../helpers/standin-gateway.ts'

const JOBS = '/batch/jobs?api-version=2024-07-01.20.0&maxresults=1'

t.test('a thousand cold requests at once make one token request', async t => {
  let release = () => {}
  const held = new Promise<void>(resolve => {
    release = resolve
  })
  const limits = { maxConcurrent: 64, maxQueue: 1_000, queueTimeoutMs: 600_000, maxBodyBytes: 1_000 }
  const opened = openStandinGateway(t, {
    batch: { limits },
    // The first token is held back until all requests are in.
    prepare: standin => void standin.faults.entra.set({ kind: 'hold', until: held }),
    token: { refreshBeforeMs: 600_000, timeoutMs: 60_000 },
    awaitFirstTokens: false,
  })
  const { url, gateway, standin } = await opened
  const requests = Array.from({ length: 1_000 }, async () => {
    const response = await fetch(`${url}${JOBS}`)
    await response.text()
    return response.status
  })
  await new Promise<void>(resolve => {
    const look = () => (gateway.inFlight() >= 1_000 ? resolve() : setImmediate(look))
    look()
  })
  release()
  t.same(new Set(await Promise.all(requests)), new Set([200]))
  t.equal(standin.entra.counters.tokenRequests[standin.batch.scope], 1)
  t.equal(standin.batch.counters.requests, 1_000)
})

t.test(
  "the token upstream is the stand-in's, for the exact audience; the client's own never arrives",
  async t => {
    const { url, standin } = await openStandinGateway(t)
    for (const [path, server] of [
      [JOBS, standin.batch],
      ['/ml/', standin.mlOnline],
    ] as const) {
      const response = await fetch(url + path, { headers: { authorization: 'SharedKey acct:AAAA' } })
      t.equal(response.status, 200)
      await response.text()
      const seen = server.requests.at(-1)!
      t.equal(seen.token!.aud, server.audience)
      t.equal(seen.token!.appid, standin.clientId)
      t.notMatch(JSON.stringify(seen.rawHeaders), /SharedKey/)
    }
    t.equal(standin.batch.audience, 'https://batch.core.windows.net/')
  },
)

t.test('an upstream 401 for a revoked token is never seen: one new token, one replay', async t => {
  const { url, standin, accessLine } = await openStandinGateway(t)
  standin.faults.batch.revokeAll()
  const response = await fetch(url + JOBS)
  t.equal(response.status, 200)
  await response.text()
  t.equal(standin.entra.counters.tokenRequests[standin.batch.scope], 2)
  t.equal(standin.batch.counters.requests, 2)
  t.match(await accessLine(), { attempts: 2, retry: 'unauthorized-new-token', status: 200 })

  const body = JSON.stringify({ id: 'posted', poolInfo: { poolId: 'pool-1' } })
  const headers = { 'content-type': 'application/json; odata=minimalmetadata' }
  standin.faults.batch.next({ kind: 'status', status: 401 })
  const again = await fetch(`${url}/batch/jobs?api-version=2024-07-01.20.0`, {
    method: 'POST',
    headers,
    body,
  })
  // At most one forced refresh per 30 s: this 401 passes through as it came.
  t.equal(again.status, 401)
  t.equal(again.headers.get('x-entra-proxy-error'), null)
  await again.text()
  t.equal(standin.entra.counters.tokenRequests[standin.batch.scope], 2)
})

t.test('fifty 401s at once make one new token, and every request is replayed with it', async t => {
  const { url, standin } = await openStandinGateway(t)
  standin.faults.batch.revokeAll()
  const statuses = await Promise.all(
    Array.from({ length: 50 }, async () => {
      const response = await fetch(url + JOBS)
      await response.text()
      return response.status
    }),
  )
  t.same(new Set(statuses), new Set([200]))
  t.equal(standin.entra.counters.tokenRequests[standin.batch.scope], 2)
})

t.test(
  'a small body is replayed whole after a 401; a body too large to keep is not, and the next request is fine',
  async t => {
    const { url, standin, accessLine } = await openStandinGateway(t)
    const sink = `${url}/batch/~standin/sink?api-version=2024-07-01.20.0`
    standin.faults.batch.revokeAll()
    const small = Buffer.alloc(300_000, 'x')
    const replayed = await fetch(sink, { method: 'POST', body: small })
    t.equal(replayed.status, 200)
    t.match(await replayed.json(), { bytes: small.length })

    const third = await openStandinGateway(t)
    third.standin.faults.batch.revokeAll()
    const pieces = Readable.toWeb(
      Readable.from(Array.from({ length: 3_000 }, (_, i) => Buffer.from([i % 251]))),
    )
    const init = { method: 'POST', body: pieces, duplex: 'half' } as unknown as RequestInit
    const chunked = await fetch(`${third.url}/batch/~standin/sink?api-version=2024-07-01.20.0`, init)
    t.equal(chunked.status, 200)
    const whole = Buffer.from(Array.from({ length: 3_000 }, (_, i) => i % 251))
    t.match(await chunked.json(), { bytes: 3_000, sha256: createHash('sha256').update(whole).digest('hex') })

    const other = await openStandinGateway(t)
    other.standin.faults.batch.revokeAll()
    const large = Buffer.alloc(2_000_000, 'x')
    const path = '/batch/~standin/sink?api-version=2024-07-01.20.0'
    const refused = await fetch(other.url + path, { method: 'POST', body: large })
    t.equal(refused.status, 401)
    await refused.text()
    t.match(await other.accessLine(), { retry: 'unauthorized-not-replayable', attempts: 1 })
    await other.standin.entra.waitUntil(
      () => other.standin.entra.counters.tokenRequests[other.standin.batch.scope] === 2,
    )
    await other.standin.entra.waitForIdle()
    let next = await fetch(other.url + path, { method: 'POST', body: large })
    while (next.status === 401) {
      await next.text()
      next = await fetch(other.url + path, { method: 'POST', body: large })
    }
    t.equal(next.status, 200)
    await next.text()
    await accessLine()
  },
)

t.test('a claims challenge gets a token with those claims', async t => {
  const { url, standin } = await openStandinGateway(t)
  standin.faults.batch.requireClaims({ nbf: { essential: true, value: '1603742800' } })
  const response = await fetch(url + JOBS)
  t.equal(response.status, 200)
  await response.text()
  const claims = standin.entra.requests.map(request => request.tokenRequest?.claims).filter(Boolean)
  t.equal(claims.length, 1)
  t.match(JSON.parse(claims[0]!), { access_token: { nbf: { essential: true, value: '1603742800' } } })
})

t.test("the upstream's own 401 and 403 pass with body and challenge when nothing can be done", async t => {
  const { url, standin } = await openStandinGateway(t)
  const forbidden = await (async () => {
    standin.faults.batch.next({ kind: 'status', status: 403, body: 'no role', headers: { 'x-why': 'role' } })
    return fetch(url + JOBS)
  })()
  t.equal(forbidden.status, 403)
  t.equal(forbidden.headers.get('x-why'), 'role')
  t.equal(forbidden.headers.get('x-entra-proxy-error'), null)
  t.equal(await forbidden.text(), 'no role')
  t.equal(standin.entra.counters.tokenRequests[standin.batch.scope], 1)

  standin.faults.batch.set({
    kind: 'status',
    status: 401,
    body: 'wrong audience',
    headers: { 'www-authenticate': 'Bearer error="invalid_token"' },
  })
  const refused = await fetch(url + JOBS)
  t.equal(refused.status, 401)
  t.equal(refused.headers.get('www-authenticate'), 'Bearer error="invalid_token"')
  t.equal(await refused.text(), 'wrong audience')
  t.equal(standin.batch.counters.requests, 3, 'one replay, no more')
})

t.test(
  'without a token nothing goes upstream: 503 token_unavailable, Retry-After, and no word of the library',
  async t => {
    const { url, standin, logs, gateway } = await openStandinGateway(t, {
      prepare: standin =>
        void standin.faults.entra.set({
          kind: 'status',
          status: 400,
          body: '{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}',
        }),
    })
    const response = await fetch(url + JOBS)
    t.equal(response.status, 503)
    t.equal(response.headers.get('x-entra-proxy-error'), 'token_unavailable')
    t.match(response.headers.get('retry-after'), /^\d+$/)
    const problem = (await response.json()) as Record<string, string>
    t.match(problem, { code: 'token_unavailable', route: 'batch', remedy: /\w/ })
    t.notMatch(JSON.stringify(problem), /Invalid client secret provided|AuthenticationRequiredError/)
    t.equal(standin.batch.counters.requests, 0)
    t.notMatch(logs.join(''), standin.clientSecret)
    t.notOk(gateway.tokenState('batch')!.usable)
  },
)

t.test('neither a token nor the secret is in any log line, error or metric', async t => {
  const { url, standin, logs, gateway } = await openStandinGateway(t, {
    admin: { listen: { kind: 'tcp', host: '127.0.0.1', port: 0 }, metrics: true },
  })
  await (await fetch(url + JOBS)).text()
  standin.faults.batch.revokeAll()
  await (await fetch(url + JOBS)).text()
  standin.faults.entra.set({ kind: 'status', status: 503 })
  await (await fetch(`${url}/nope`)).text()
  const metrics = await (await fetch(`${gateway.admin!.url}/metrics`)).text()
  const ready = await (await fetch(`${gateway.admin!.url}/readyz?verbose`)).text()
  const everything = [...logs, metrics, ready].join('\n')
  t.match(metrics, /entra_proxy_token_refresh_total\{.*result="success"\} 2/)
  t.notMatch(everything, /eyJ/)
  t.notMatch(everything, standin.clientSecret)
})
