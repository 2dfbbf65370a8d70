import { Agent, request } from 'node:https'
import t from 'tap'
import type { BadTokenAnswer } from '../../src/standin/standin.ts'
import { ManualClock, settle } from '../helpers/manual-clock.ts'
import { API_VERSION, openStandin, type Received } from '../helpers/standin-client.ts'

/** The code of the error that ends the request; 'none' when it succeeds. */
async function errorCode(answer: Promise<unknown>): Promise<string> {
  return answer.then(
    () => 'none',
    (error: NodeJS.ErrnoException) => error.code ?? error.message,
  )
}

t.test(
  'a status is answered once, in the server’s own shape, with Retry-After and headers as ordered',
  async t => {
    const { standin, send, bearer, askToken } = await openStandin(t)
    const headers = await bearer(standin.batch.scope)
    const url = `${standin.batch.url}/jobs/job-00001?${API_VERSION}`
    const order = standin.faults.batch.next({
      kind: 'status',
      status: 429,
      retryAfter: 3,
      headers: { 'x-own': 'yes' },
    })
    const limited = await send(url, { headers })
    t.match([limited.status, limited.headers['retry-after'], limited.headers['x-own']], [429, '3', 'yes'])
    t.equal(limited.json()['code'], 'TooManyRequests')
    t.equal((await send(url, { headers })).status, 200)
    t.equal(order.hits, 1)

    standin.faults.batch.next({ kind: 'status', status: 401 })
    const refused = await send(url, { headers })
    t.match([refused.status, refused.json()['code']], [401, 'AuthenticationFailed'])
    t.match(refused.headers['www-authenticate'], /^Bearer /)
    standin.faults.batch.next({
      kind: 'status',
      status: 503,
      body: '<h1>busy</h1>',
      headers: { 'content-type': 'text/html' },
    })
    t.equal((await send(url, { headers })).text, '<h1>busy</h1>')

    standin.faults.entra.next({ kind: 'status', status: 503 })
    t.match((await askToken()).json(), { error: 'temporarily_unavailable', error_codes: [90033] })
    standin.faults.imds.next({ kind: 'status', status: 410 })
    t.equal((await send(`${standin.imds.url}/metadata`)).json()['error'], 'gone')
  },
)

t.test('orders keep their count, their condition and their end', async t => {
  const { standin, send, bearer } = await openStandin(t)
  const { faults, batch } = standin
  const headers = await bearer(batch.scope)
  const status = async (path: string) =>
    (await send(`${batch.url}${path}?${API_VERSION}`, { headers })).status
  const only = { when: ({ url }: { url: string }) => url.startsWith('/pools') }

  faults.batch.next({ kind: 'status', status: 500 }, { ...only, times: 2 })
  t.same(
    [await status('/jobs'), await status('/pools'), await status('/pools'), await status('/pools')],
    [200, 500, 500, 200],
  )
  const standing = faults.batch.set({ kind: 'status', status: 503 }, only)
  t.same([await status('/jobs'), await status('/pools'), await status('/pools')], [200, 503, 503])
  t.equal(standing.hits, 2)
  standing.clear()
  t.equal(await status('/pools'), 200)
  faults.batch.set({ kind: 'status', status: 503 })
  faults.batch.next({ kind: 'status', status: 500 })
  faults.batch.clear()
  t.equal(await status('/pools'), 200)
})

t.test(
  'a delay ends on the stand-in’s clock, a hold with its promise; both go with another fault',
  async t => {
    const clock = new ManualClock()
    const { standin, send, bearer } = await openStandin(t, { clock })
    const { faults, batch } = standin
    const headers = await bearer(batch.scope)
    const url = `${batch.url}/~standin/echo`

    faults.batch.set({ kind: 'delay', ms: 5000 })
    faults.batch.next({ kind: 'status', status: 503 })
    const late = send(url, { headers })
    await batch.waitForRequest(request => request.state === 'open')
    t.equal(clock.pending, 1)
    await clock.advance(4999)
    t.equal(batch.requests.at(-1)?.status, undefined, 'not a moment before')
    await clock.advance(1)
    t.equal((await late).status, 503)
    faults.batch.clear()

    let release = () => {}
    faults.batch.next({ kind: 'hold', until: new Promise<void>(resolve => (release = resolve)) })
    const held = send(url, { headers })
    await batch.waitForRequest(request => request.state === 'open')
    await settle()
    t.equal(batch.requests.at(-1)?.status, undefined)
    release()
    t.equal((await held).status, 200)
  },
)

t.test('a silent server takes the request, and sees the client leave', async t => {
  const { standin, bearer } = await openStandin(t)
  const { faults, batch } = standin
  faults.batch.next({ kind: 'silent' })
  const agent = new Agent({ ca: standin.caPem })
  const pending = request(`${batch.url}/jobs?${API_VERSION}`, { agent, headers: await bearer(batch.scope) })
  pending.on('error', () => {})
  pending.end()
  const seen = await batch.waitForRequest(({ state }) => state === 'open')
  t.equal(batch.counters.openSockets, 1)
  pending.destroy()
  await batch.waitForRequest(({ aborted }) => aborted)
  await batch.waitUntil(() => batch.counters.openSockets === 0)
  t.match(seen, { state: 'ended', aborted: true, bytesOut: 0 })
  t.equal(seen.status, undefined)
  t.equal(batch.counters.aborted, 1)
})

t.test('a dropped connection gives no answer, a raw one gives what is no HTTP', async t => {
  const { standin, send, bearer } = await openStandin(t)
  const { faults, batch } = standin
  const headers = await bearer(batch.scope)
  const url = `${batch.url}/~standin/echo`
  for (const how of ['rst', 'fin'] as const) {
    faults.batch.next({ kind: 'drop', how })
    t.equal(await errorCode(send(url, { headers })), 'ECONNRESET', how)
  }
  faults.batch.next({ kind: 'raw', bytes: 'SSH-2.0-OpenSSH_9.6\r\n' })
  t.match(await errorCode(send(url, { headers })), /^HPE_/)
  await batch.waitForIdle()
  t.equal(batch.counters.aborted, 0, 'what the server did itself is not held against the client')
})

t.test('a cut body ends early, whatever its framing; the bytes before it arrive', async t => {
  const { standin, open, bearer } = await openStandin(t)
  const { faults, batch } = standin
  const headers = await bearer(batch.scope)
  for (const how of ['rst', 'fin'] as const) {
    for (const target of ['/~standin/bytes/100000', '/~standin/bytes/100000?chunked']) {
      faults.batch.next({ kind: 'cut-body', afterBytes: 1000, how })
      const message = await open(`${batch.url}${target}`, { headers })
      t.equal(message.headers['content-length'], target.endsWith('chunked') ? undefined : '100000')
      let bytes = 0
      const ended = (async () => {
        for await (const chunk of message) bytes += (chunk as Buffer).length
      })()
      t.equal(await errorCode(ended), 'ECONNRESET', `${how} ${target}`)
      t.ok(bytes <= 1000)
      if (how === 'fin') t.equal(bytes, 1000)
    }
  }
})

t.test('a slow body comes in pieces, a stalled one stops where it was told and goes on', async t => {
  const clock = new ManualClock()
  const { standin, open, bearer } = await openStandin(t, { clock })
  const { faults, batch } = standin
  const headers = await bearer(batch.scope)

  faults.batch.next({ kind: 'slow-body', bytes: 40, pauseMs: 1000 })
  const slow = await open(`${batch.url}/~standin/bytes/100`, { headers })
  const pieces: number[] = []
  for await (const chunk of slow) {
    pieces.push((chunk as Buffer).length)
    if (pieces.length < 3) await clock.advance(1000)
  }
  t.same(pieces, [40, 40, 20])

  let release = () => {}
  faults.batch.next({
    kind: 'stall-body',
    afterBytes: 60,
    until: new Promise<void>(resolve => (release = resolve)),
  })
  const stalled = await open(`${batch.url}/~standin/bytes/100`, { headers })
  const parts: number[] = []
  for await (const chunk of stalled) {
    parts.push((chunk as Buffer).length)
    await settle()
    t.equal(batch.requests.at(-1)?.bytesOut, parts.length === 1 ? 60 : 100)
    release()
  }
  t.same(parts, [60, 40])
})

t.test('a server that is down refuses connections, and comes back on the same port', async t => {
  const { standin, send } = await openStandin(t)
  const { entra, faults } = standin
  const { url } = entra
  t.equal((await send(url)).status, 404)
  await faults.entra.refuseConnections()
  t.equal(entra.counters.openSockets, 0)
  t.equal(await errorCode(send(url, { fresh: true })), 'ECONNREFUSED')
  await faults.entra.acceptConnections()
  t.equal(entra.url, url)
  t.equal((await send(url, { fresh: true })).status, 404)
})

t.test('a wrong certificate is shown from the next connection on', async t => {
  const { standin, send } = await openStandin(t)
  const { entra, faults } = standin
  const outcome = () => errorCode(send(entra.url, { fresh: true }))
  t.equal((await send(entra.url)).status, 404)
  faults.entra.presentCertificate('expired')
  await entra.waitUntil(() => entra.counters.openSockets === 0)
  t.equal(await outcome(), 'CERT_HAS_EXPIRED')
  faults.entra.presentCertificate('wrong-name')
  t.equal(await outcome(), 'ERR_TLS_CERT_ALTNAME_INVALID')
  faults.entra.presentCertificate('good')
  t.equal(await outcome(), 'none')
})

t.test('token endpoints answer with tokens of no use', async t => {
  const { standin, askToken, send } = await openStandin(t)
  const imds = () => {
    const query = 'api-version=2018-02-01&resource=https%3A%2F%2Fbatch.core.windows.net%2F'
    return send(`${standin.imds.url}/metadata/identity/oauth2/token?${query}`, {
      headers: { metadata: 'true' },
    })
  }
  const checks: Record<BadTokenAnswer, (answer: Received) => void> = {
    html: answer => t.match(answer.headers['content-type'], 'text/html'),
    empty: answer => t.equal(answer.json()['access_token'], ''),
    missing: answer => t.notHas(answer.json(), 'access_token'),
    'no-lifetime': answer => t.notMatch(answer.text, /"(expires|ext_expires)_/),
    crlf: answer => t.match(answer.json()['access_token'], /\r\n/),
    'wrong-audience': answer => {
      const [, payload = ''] = answer.json()['access_token'].split('.')
      t.equal(JSON.parse(Buffer.from(payload, 'base64url').toString()).aud, 'https://graph.microsoft.com')
    },
  }
  for (const [kind, check] of Object.entries(checks)) {
    standin.faults.entra.next({ kind: 'bad-token', answer: kind as BadTokenAnswer })
    standin.faults.imds.next({ kind: 'bad-token', answer: kind as BadTokenAnswer })
    for (const answer of [await askToken(), await imds()]) {
      t.equal(answer.status, 200, kind)
      check(answer)
    }
  }
  standin.faults.entra.set({ kind: 'token-life', seconds: 2 })
  standin.faults.imds.set({ kind: 'token-life', seconds: 2 })
  t.equal((await askToken()).json()['expires_in'], 2)
  t.equal((await imds()).json()['expires_in'], '2')
})

t.test('a revoked token is refused; one issued later is not', async t => {
  const { standin, send, token } = await openStandin(t)
  const { faults, batch } = standin
  const status = async (bearer: string) =>
    (await send(`${batch.url}/~standin/echo`, { headers: { authorization: `Bearer ${bearer}` } })).status
  const [one, two] = [await token(batch.scope), await token(batch.scope)]
  t.same([await status(one), await status(two)], [200, 200])
  faults.batch.revoke(batch.requests[0]!.jti!)
  t.same([await status(one), await status(two)], [401, 200])
  faults.batch.revokeAll()
  const three = await token(batch.scope)
  t.same([await status(one), await status(two), await status(three)], [401, 401, 200])
  faults.batch.clear()
  t.same([await status(one), await status(two)], [200, 200])
})

t.test(
  'a claims challenge is met by a token that was asked for with these claims, and by no other',
  async t => {
    const { standin, send, token } = await openStandin(t)
    const { faults, batch } = standin
    const required = { nbf: { essential: true, value: '1603742800' } }
    faults.batch.requireClaims(required)
    const ask = (bearer: string) =>
      send(`${batch.url}/~standin/echo`, { headers: { authorization: `Bearer ${bearer}` } })

    const refused = await ask(await token(batch.scope))
    t.equal(refused.status, 401)
    const challenge = refused.headers['www-authenticate']!
    t.match(
      challenge,
      /^Bearer realm="", authorization_uri="[^"]+", error="insufficient_claims", claims="[\w+/=]+"$/,
    )
    const claims = Buffer.from(/claims="([^"]+)"/.exec(challenge)![1]!, 'base64').toString()
    t.same(JSON.parse(claims), { access_token: required })

    t.equal((await ask(await token(batch.scope, { claims: '{"access_token":{"nbf":null}}' }))).status, 401)
    t.equal((await ask(await token(batch.scope, { claims }))).status, 200)
  },
)
