import fc from 'fast-check'
import t from 'tap'
import {
  classifyFailure,
  type FailureContext,
  type NetworkFact,
  redact,
  TokenFailure,
} from '../../src/auth/failures.ts'

const app: FailureContext = { type: 'client-secret', scope: 'SCOPE', tenantId: 'TENANT', clientId: 'CLIENT' }
const cli: FailureContext = { ...app, type: 'azure-cli' }
const imds: FailureContext = { type: 'managed-identity', scope: 'SCOPE' }

const byNumber: readonly [aadsts: number, context: FailureContext, kind: string, remedy: RegExp][] = [
  [7000215, app, 'configuration', /value, not its id/],
  [7000222, app, 'configuration', /new secret/],
  [700016, app, 'configuration', /CLIENT.*TENANT/],
  [90002, app, 'configuration', /TENANT.*sovereign/],
  [500011, app, 'configuration', /SCOPE.*TENANT/],
  [70011, app, 'configuration', /SCOPE.*\/\.default/],
  [50076, cli, 'interaction', /^Run: az login --tenant TENANT --scope SCOPE$/],
  [50079, cli, 'interaction', /^Run: az login/],
  [50076, { ...app, type: 'azure-developer-cli' }, 'interaction', /^Run: azd auth login$/],
  [50076, { ...app, type: 'azure-powershell' }, 'interaction', /Connect-AzAccount/],
  [65001, cli, 'interaction', /az login.*grant consent/],
  [70043, cli, 'interaction', /az login/],
  [700082, cli, 'interaction', /az login/],
  [90033, app, 'transient', /Nothing to do/],
  [53003, cli, 'configuration', /administrator/],
  [700213, { ...app, type: 'workload-identity' }, 'configuration', /system:serviceaccount/],
]

for (const [aadsts, context, kind, remedy] of byNumber) {
  const expected = { kind, aadsts, remedy, message: new RegExp(`AADSTS${aadsts}`) }

  t.test(`AADSTS${aadsts} for ${context.type}: ${kind}, with a remedy`, async t => {
    const text = `CANARY AADSTS${aadsts}: what the library says. Trace ID: x`
    // 4.13 gives a message alone, 4.14 a cause as well; the answer itself is the best source.
    const without = Object.assign(new Error(text), { name: 'AuthenticationRequiredError' })
    const within = new Error('CANARY', { cause: new Error(text) })
    const fact: NetworkFact = { host: 'login.example', status: 400, error: 'invalid_grant', aadsts }
    for (const failure of [
      classifyFailure(without, context),
      classifyFailure(within, context),
      classifyFailure(new Error('CANARY'), { ...context, fact }),
    ]) {
      t.match(failure, expected)
      t.notMatch([failure.message, failure.remedy, failure.stack, JSON.stringify(failure)].join(), 'CANARY')
    }
  })
}

const host = 'login.example'
const byFact: readonly [title: string, context: FailureContext, fact: NetworkFact, expected: object][] = [
  [
    '429 with Retry-After',
    app,
    { host, status: 429, retryAfterMs: 5000 },
    { kind: 'transient', retryAfterMs: 5000 },
  ],
  ['503', app, { host, status: 503 }, { kind: 'transient', message: /login\.example.*HTTP 503/ }],
  [
    'an unknown 400',
    app,
    { host, status: 400, error: 'invalid_client' },
    { kind: 'configuration', code: 'invalid_client' },
  ],
  [
    'interaction_required',
    app,
    { host, status: 400, error: 'interaction_required' },
    { kind: 'interaction' },
  ],
  ['407 of a proxy', app, { host, status: 407 }, { kind: 'configuration', remedy: /HTTPS_PROXY/ }],
  ['a 200 that holds nothing', app, { host, status: 200 }, { kind: 'transient', code: 'unreadable_answer' }],
  [
    'a refused connection',
    app,
    { host, code: 'ECONNREFUSED' },
    { kind: 'transient', message: /login\.example/ },
  ],
  ['a name without address', app, { host, code: 'ENOTFOUND' }, { kind: 'transient', message: /DNS/ }],
  [
    'a private authority',
    app,
    { host, code: 'SELF_SIGNED_CERT_IN_CHAIN' },
    { kind: 'tls', remedy: /caFile/ },
  ],
  [
    'a wrong name',
    app,
    { host, code: 'ERR_TLS_CERT_ALTNAME_INVALID' },
    { kind: 'tls', message: /login\.example/ },
  ],
  ['an old protocol', app, { host, code: 'ERR_SSL_WRONG_VERSION_NUMBER' }, { kind: 'tls' }],
  ['no IMDS', imds, { host, code: 'ENETUNREACH' }, { kind: 'unavailable', remedy: /Azure compute/ }],
  [
    'an identity unknown to IMDS',
    imds,
    { host, status: 400, error: 'invalid_request' },
    { kind: 'configuration' },
  ],
  ['an IMDS that is being updated', imds, { host, status: 410 }, { kind: 'transient' }],
]

for (const [title, context, fact, expected] of byFact) {
  t.test(`${title}, seen on the network, is told as what it is`, async t => {
    t.match(classifyFailure(new Error('network_error'), { ...context, fact }), expected)
  })
}

t.test('an error without any hint is transient, with a way to learn more', async t => {
  for (const error of [
    new Error('?'),
    undefined,
    null,
    'text',
    { odd: true },
    new AggregateError([new Error('a')]),
  ]) {
    t.match(classifyFailure(error, app), { kind: 'transient', remedy: /debug/ })
  }
})

t.test('a TokenFailure stays what it is', async t => {
  const failure = new TokenFailure({ kind: 'tls', code: 'x', detail: 'd', remedy: 'r' })
  t.equal(classifyFailure(failure, app), failure)
})

t.test("the library's text is kept for the debug log, redacted and out of reach of serialisers", async t => {
  const jwt = `eyJhbGciOi.${'a'.repeat(30)}.sig`
  const failure = classifyFailure(new Error(`sent client_secret=abc&x=1 and ${jwt} and pass-word`), {
    ...app,
    secrets: ['pass-word'],
  })
  t.equal(failure.debugText(), 'sent client_secret=[redacted]&x=1 and [jwt] and [redacted]')
  t.notMatch(JSON.stringify(failure) + Object.values(failure).join(), 'sent client_secret')
})

t.test('redact takes a secret out in every form it travels in', async t => {
  fc.assert(
    fc.property(fc.string({ minLength: 8, maxLength: 40 }), fc.string(), (secret, around) => {
      const text = [
        secret,
        encodeURIComponent(secret),
        new URLSearchParams({ s: secret }).toString(),
        JSON.stringify({ secret }),
        Buffer.from(secret).toString('base64'),
      ].join(` ${around} `)
      const clean = redact(text, [secret])
      return around.includes(secret) || !clean.replaceAll('[redacted]', '').includes(secret)
    }),
  )
  t.notMatch(redact('s=a%2Fb%3Dcd e YS9iPWNk', ['a/b=cd']), /a%2Fb|YS9i/)
})

t.test('redact leaves text without secrets alone', async t => {
  const text = 'AADSTS700016: Application with identifier 123 was not found in the directory'
  t.equal(redact(text, ['', 'xyz']), text)
})
