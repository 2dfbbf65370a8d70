// The real identity library against the stand-in's Entra.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type CredentialDeps, createCredential } from '../../src/auth/credentials.ts'
import { TokenCache, type TokenEvent } from '../../src/auth/token-cache.ts'
import { systemClock } from '../../src/clock.ts'
import type { CredentialConfig } from '../../src/config/config.ts'
import { GatewayError } from '../../src/errors.ts'
import { startStandin } from '../../src/standin/standin.ts'
import { failureOf } from '../helpers/fake-credential.ts'

const standin = await startStandin()
t.teardown(() => standin.close())
t.beforeEach(() => standin.reset())

const SCOPE = standin.batch.scope
const AUDIENCE = standin.batch.audience
const secretFile = join(t.testdir({ secret: '' }), 'secret')

const config: CredentialConfig = {
  type: 'client-secret',
  tenantId: standin.tenantId,
  clientId: standin.clientId,
  clientSecretFile: secretFile,
  authorityHost: standin.entra.url,
}

const deps: CredentialDeps = {
  env: {},
  readFile: path => readFile(path, 'utf8'),
  clock: systemClock,
  ca: [standin.caPem],
}

/** How many token requests Entra has seen. */
const posts = () => standin.entra.requests.filter(({ method }) => method === 'POST').length

function newCache(t: Test, onEvent: (event: TokenEvent) => void = () => {}): TokenCache {
  const cache = new TokenCache({
    clock: systemClock,
    refreshBeforeMs: 600_000,
    timeoutMs: 15_000,
    maxEntries: 10,
    onEvent,
  })
  t.teardown(() => cache.close())
  return cache
}

const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())

t.beforeEach(() => writeFile(secretFile, `${standin.clientSecret}\n`))

t.test('a token comes with one token request, for the audience of the scope', async t => {
  const answer = await createCredential(config, deps).acquire(SCOPE)
  t.match(claimsOf(answer.token), { aud: AUDIENCE, appid: standin.clientId })
  t.ok(answer.expiresAt! > Date.now() + 3_500_000)
  t.equal(posts(), 1)
  t.equal(standin.entra.requests.length, 2, 'besides the discovery of the custom authority')
})

t.test('a thousand concurrent cold calls make one token request', async t => {
  const source = newCache(t).source(createCredential(config, deps), SCOPE, { audience: AUDIENCE })
  const tokens = await Promise.all(Array.from({ length: 1000 }, () => source.current()))
  t.equal(new Set(tokens).size, 1)
  t.equal(posts(), 1)
})

t.test('two scopes take a token each', async t => {
  const cache = newCache(t)
  const credential = createCredential(config, deps)
  await Promise.all([
    cache.source(credential, SCOPE).current(),
    cache.source(credential, standin.mlOnline.scope).current(),
  ])
  t.strictSame({ ...standin.entra.counters.tokenRequests }, { [SCOPE]: 1, [standin.mlOnline.scope]: 1 })
})

t.test('each acquisition asks Entra anew, whatever the library has cached', async t => {
  const credential = createCredential(config, deps)
  const first = await credential.acquire(SCOPE)
  const second = await credential.acquire(SCOPE, { force: true })
  t.not(first.token, second.token)
  t.equal(posts(), 2)
})

t.test('the secret file is read again at each attempt, and its last line break does not count', async t => {
  const credential = createCredential(config, deps)
  await writeFile(secretFile, 'the old secret')
  t.match(await failureOf(credential.acquire(SCOPE)), {
    kind: 'configuration',
    code: 'invalid_client',
    aadsts: 7000215,
    message: 'Entra does not accept the client secret (AADSTS7000215, HTTP 401)',
    remedy: /clientSecretFile/,
    correlationId: /^[0-9a-f-]{36}$/,
  })
  await writeFile(secretFile, `${standin.clientSecret}\r\n`)
  t.ok((await credential.acquire(SCOPE)).token)
})

t.test('without a file the secret comes from AZURE_CLIENT_SECRET', async t => {
  const { clientSecretFile: _, ...withoutFile } = config
  const credential = createCredential(withoutFile, {
    ...deps,
    env: { AZURE_CLIENT_SECRET: standin.clientSecret },
  })
  t.ok((await credential.acquire(SCOPE)).token)
})

t.test('a secret file that is missing or empty is a failure that names it, and no request', async t => {
  const missing = createCredential({ ...config, clientSecretFile: `${secretFile}.gone` }, deps)
  t.match(await failureOf(missing.acquire(SCOPE)), { kind: 'configuration', message: /secret\.gone.*ENOENT/ })
  await writeFile(secretFile, '\n')
  t.match(await failureOf(createCredential(config, deps).acquire(SCOPE)), { code: 'file_empty' })
  t.equal(standin.entra.requests.length, 0)
})

t.test('unknown client, tenant and scope each have a remedy of their own', async t => {
  const attempts = [
    [{ ...config, clientId: 'nobody' }, SCOPE, 700016, /nobody/],
    [{ ...config, tenantId: 'nowhere' }, SCOPE, undefined, /./],
    [config, 'https://batch.core.windows.net/', 70011, /\/\.default/],
  ] as const
  for (const [wrong, scope, aadsts, remedy] of attempts) {
    const failure = await failureOf(createCredential(wrong, deps).acquire(scope))
    t.match(failure, { remedy, ...(aadsts === undefined ? {} : { aadsts, kind: 'configuration' }) })
  }
})

t.test('an outage of Entra is transient, costs one request, and recovery is immediate', async t => {
  const credential = createCredential(config, deps)
  standin.faults.entra.next({ kind: 'status', status: 503 }, { when: ({ method }) => method === 'POST' })
  t.match(await failureOf(credential.acquire(SCOPE)), { kind: 'transient', aadsts: 90033 })
  t.equal(posts(), 1)
  t.ok((await credential.acquire(SCOPE)).token, 'not held back by the throttling in the library')
})

t.test('a 429 with Retry-After is not waited for, but told', async t => {
  standin.faults.entra.next(
    { kind: 'status', status: 429, retryAfter: 600 },
    { when: ({ method }) => method === 'POST' },
  )
  const failure = await failureOf(createCredential(config, deps).acquire(SCOPE))
  t.match(failure, { kind: 'transient', retryAfterMs: 600_000, message: /HTTP 429/ })
  t.equal(posts(), 1)
})

t.test('an Entra that does not answer is given up after the request time limit', async t => {
  standin.faults.entra.set({ kind: 'silent' })
  const credential = createCredential(config, { ...deps, requestTimeoutMs: 200 })
  t.match(await failureOf(credential.acquire(SCOPE)), {
    kind: 'transient',
    code: 'TIMEOUT',
    message: /did not answer/,
  })
})

t.test('connections that are refused or reset are transient and named', async t => {
  const credential = createCredential(config, deps)
  standin.faults.entra.next({ kind: 'drop' })
  t.match(await failureOf(credential.acquire(SCOPE)), { kind: 'transient', code: 'ECONNRESET' })
  await standin.faults.entra.refuseConnections()
  t.match(await failureOf(credential.acquire(SCOPE)), {
    kind: 'transient',
    code: 'ECONNREFUSED',
    message: /localhost/,
  })
})

t.test('a host without an address is named', async t => {
  const credential = createCredential({ ...config, authorityHost: 'https://entra.invalid' }, deps)
  t.match(await failureOf(credential.acquire(SCOPE)), { kind: 'transient', message: /entra\.invalid .*DNS/ })
})

t.test('a certificate that is not trusted is a TLS failure that names host and remedy', async t => {
  const { ca: _, ...withoutCa } = deps
  const untrusted = createCredential(config, withoutCa)
  t.match(await failureOf(untrusted.acquire(SCOPE)), {
    kind: 'tls',
    message: /localhost/,
    remedy: /outbound\.caFile/,
  })
  for (const certificate of ['wrong-name', 'expired', 'self-signed'] as const) {
    standin.faults.entra.presentCertificate(certificate)
    t.match(await failureOf(createCredential(config, deps).acquire(SCOPE)), { kind: 'tls' }, certificate)
  }
})

t.test('an answer of no use is refused with a reason, and nothing of it is handed out', async t => {
  const expected = {
    html: 'unreadable_answer',
    empty: /token_empty|unreadable_answer/,
    missing: /token_empty|unreadable_answer/,
    crlf: 'token_malformed',
    'wrong-audience': 'audience_mismatch',
  } as const
  for (const [answer, code] of Object.entries(expected)) {
    const fault = standin.faults.entra.set({ kind: 'bad-token', answer: answer as keyof typeof expected })
    const cache = newCache(t)
    const source = cache.source(createCredential(config, deps), SCOPE, { audience: AUDIENCE })
    await t.rejects(async () => source.current(), GatewayError, answer)
    t.match(source.state(), { usable: false, lastError: { code } }, answer)
    cache.close()
    fault.clear()
  }
})

t.test('an answer without a lifetime lives as long as its JWT says', async t => {
  standin.faults.entra.set({ kind: 'bad-token', answer: 'no-lifetime' })
  const source = newCache(t).source(createCredential(config, deps), SCOPE, { audience: AUDIENCE })
  const token = await source.current()
  t.equal(token.expiresAt, claimsOf(token.authorization.slice('Bearer '.length)).exp * 1000)
})

t.test('an upstream claims challenge reaches Entra, and its token is another one', async t => {
  const source = newCache(t).source(createCredential(config, deps), SCOPE, { audience: AUDIENCE })
  const used = await source.current()
  const claims = '{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}'
  const challenge = `Bearer error="insufficient_claims", claims="${Buffer.from(claims).toString('base64')}"`
  const fresh = await source.rejected(used, [challenge])
  t.ok(fresh !== null && fresh.authorization !== used.authorization)
  t.match(JSON.parse(standin.entra.requests.at(-1)!.tokenRequest!.claims!), JSON.parse(claims))
})

t.test(
  'a proxy that echoes the request gets no secret into any error, event, state or debug text',
  async t => {
    const events: TokenEvent[] = []
    const secret = standin.clientSecret
    const bodies = [
      `You sent client_secret=${encodeURIComponent(secret)}`,
      JSON.stringify({ error: secret, error_description: secret }),
    ]
    const seen: unknown[] = []
    for (const status of [200, 400, 401, 500, 502]) {
      for (const body of bodies) {
        const fault = standin.faults.entra.set(
          { kind: 'status', status, body },
          { when: ({ method }) => method === 'POST' },
        )
        const credential = createCredential(config, deps)
        const cache = newCache(t, event => events.push(event))
        const source = cache.source(credential, SCOPE)
        const failure = await failureOf(credential.acquire(SCOPE))
        seen.push(failure.message, failure.stack, failure.remedy, failure.debugText(), failure)
        seen.push(await source.prefetch())
        fault.clear()
      }
    }
    t.ok(events.length >= 10)
    const text = JSON.stringify([seen, events])
    t.notOk(text.includes(secret) || text.includes(encodeURIComponent(secret)))
  },
)

t.test('the service of a token goes on while Entra is down, and ends in a fast 503', async t => {
  // Life and refresh in real time, hence short: the lifecycle itself is tested on a manual clock.
  const source = newCache(t).source(createCredential(config, deps), SCOPE)
  const token = await source.current()
  await standin.faults.entra.refuseConnections()
  t.equal(await source.rejected(token, []), null)
  t.equal(source.current(), token)

  const cold = newCache(t).source(createCredential(config, deps), SCOPE)
  await t.rejects(async () => cold.current(), { code: 'token_unavailable', headers: { 'retry-after': '1' } })
  await t.rejects(async () => cold.current(), { code: 'token_unavailable' })
})
