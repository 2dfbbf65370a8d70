import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import type { AcquiredToken } from '../../src/auth/credential.ts'
import { TokenFailure } from '../../src/auth/failures.ts'
import type { Token } from '../../src/auth/token.ts'
import { TokenCache, type TokenCacheOptions, type TokenEvent } from '../../src/auth/token-cache.ts'
import { GatewayError } from '../../src/errors.ts'
import { type Answer, FakeCredential, fakeJwt } from '../helpers/fake-credential.ts'
import { ManualClock, settle } from '../helpers/manual-clock.ts'

const SCOPE = 'https://batch.core.windows.net//.default'
const AUDIENCE = 'https://batch.core.windows.net/'
const SECOND = 1_000
const MINUTE = 60_000
const HOUR = 3_600_000

process.on('unhandledRejection', error => {
  throw error
})

interface Setup extends Partial<TokenCacheOptions> {
  readonly lifeMs?: number
  readonly clock?: ManualClock
  readonly audience?: string
}

/** A cache with one source, whose credential gives `token-1`, `token-2`…, each living `lifeMs` from when it is made. */
function setUp(t: Test, { lifeMs = HOUR, audience, clock = new ManualClock(), ...options }: Setup = {}) {
  const events: TokenEvent[] = []
  let made = 0
  const fresh = (): AcquiredToken => ({ token: `token-${++made}`, expiresAt: clock.now() + lifeMs })
  const credential = new FakeCredential(fresh)
  const cache = new TokenCache({
    clock,
    refreshBeforeMs: 10 * MINUTE,
    timeoutMs: 15 * SECOND,
    maxEntries: 100,
    random: () => 0,
    onEvent: event => events.push(event),
    ...options,
  })
  t.teardown(() => cache.close())
  const source = cache.source(credential, SCOPE, { audience, route: 'jobs' })
  /** A synchronous answer, or the test fails. */
  const warm = (): Token => {
    const token = source.current()
    if (token instanceof Promise) throw new Error('not answered at once')
    return token
  }
  return { cache, clock, credential, events, fresh, source, warm, lifeMs }
}

async function refusal(answer: Token | Promise<Token>): Promise<GatewayError> {
  try {
    await answer
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
  throw new Error('a token came where none was expected')
}

const down = (retryAfterMs?: number) =>
  new TokenFailure({
    kind: 'transient',
    code: 'http_503',
    detail: 'The token service answered with an error',
    remedy: 'Nothing to do.',
    retryAfterMs,
  })

/** An acquisition that ends when the test says so. */
function held() {
  let resolve: (answer: AcquiredToken) => void = () => {}
  let reject: (error: Error) => void = () => {}
  const promise = new Promise<AcquiredToken>((onAnswer, onFailure) => {
    resolve = onAnswer
    reject = onFailure
  })
  return { answer: () => promise, resolve, reject }
}

t.test('a thousand cold callers make one acquisition', async t => {
  const { source, credential, fresh } = setUp(t)
  const gate = held()
  credential.next(gate.answer)
  const callers = Array.from({ length: 1000 }, () => source.current())
  gate.resolve(fresh())
  const tokens = new Set(await Promise.all(callers))
  t.equal(tokens.size, 1)
  t.equal(credential.calls.length, 1)
})

t.test('the warm path answers at once, with the same object each time', async t => {
  const { source, warm, credential } = setUp(t)
  const first = await source.current()
  t.equal(first.authorization, 'Bearer token-1')
  for (let i = 0; i < 1000; i++) if (warm() !== first) t.fail('another object')
  t.equal(credential.calls.length, 1)
})

t.test('the warm path allocates nothing', async t => {
  const { source, warm } = setUp(t)
  await source.current()
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc')
  const bytesPerCall = () => {
    collect()
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < 200_000; i++) warm()
    return (process.memoryUsage().heapUsed - before) / 200_000
  }
  // Before the compiler has optimized it, each number read from a clock takes an allocation of its own. The
  // smallest object takes 12 bytes.
  const best = Math.min(...Array.from({ length: 8 }, bytesPerCall))
  t.ok(best < 4, `${best} bytes per call`)
})

t.test('two scopes of one credential have tokens of their own', async t => {
  const { cache, source, credential } = setUp(t)
  const other = cache.source(credential, 'https://ml.azure.com/.default')
  const [a, b] = await Promise.all([source.current(), other.current()])
  t.not(a.authorization, b.authorization)
  t.equal(credential.calls.length, 2)
})

t.test('two routes with the same credential and scope share one token', async t => {
  const { cache, source, credential } = setUp(t)
  const again = cache.source(new FakeCredential({ token: 'unused' }, { key: credential.key }), SCOPE, {
    audience: undefined,
    route: 'other',
  })
  t.equal(await again.current(), await source.current())
  t.strictSame(source.state().routes, ['jobs', 'other'])
})

t.test('credentials with different keys do not share tokens', async t => {
  const { cache, source } = setUp(t)
  const other = cache.source(
    new FakeCredential({ token: 'x', expiresAt: 9e15 }, { key: 'other tenant' }),
    SCOPE,
  )
  t.equal((await other.current()).authorization, 'Bearer x')
  t.equal((await source.current()).authorization, 'Bearer token-1')
})

t.test('a token is refreshed in the background before its end, without traffic', async t => {
  const { clock, source, warm, credential, events } = setUp(t)
  const first = await source.current()
  await clock.advance(50 * MINUTE - SECOND)
  t.equal(warm(), first)
  t.equal(credential.calls.length, 1)
  await clock.advance(2 * SECOND)
  t.equal(warm().authorization, 'Bearer token-2')
  t.equal(credential.calls.length, 2)
  t.match(events, [
    { type: 'acquired', reason: 'needed', changed: true, routes: ['jobs'], scope: SCOPE },
    { type: 'acquired', reason: 'due', changed: true },
  ])
})

t.test('requests keep the current token while a refresh is under way', async t => {
  const { clock, source, warm, credential, fresh } = setUp(t, { timeoutMs: 10 * MINUTE })
  const first = await source.current()
  const gate = held()
  credential.next(gate.answer)
  await clock.advance(50 * MINUTE)
  t.equal(credential.calls.length, 2, 'the refresh has begun')
  for (let i = 0; i < 50; i++) t.equal(warm(), first)
  gate.resolve(fresh())
  await settle()
  t.equal(warm().authorization, 'Bearer token-2')
  t.equal(credential.calls.length, 2)
})

t.test('the jitter moves a refresh ahead by up to a tenth of refreshBefore', async t => {
  for (const [random, minutes] of [
    [0, 50],
    [0.5, 49.5],
    [1, 49],
  ] as const) {
    const { source, clock } = setUp(t, { random: () => random })
    await source.current()
    t.equal(source.state().refreshAt, clock.now() + minutes * MINUTE)
  }
})

t.test('a refresh never comes before half the life', async t => {
  for (const random of [0, 1]) {
    const { source, clock } = setUp(t, { lifeMs: 5 * MINUTE, random: () => random })
    await source.current()
    t.equal(source.state().refreshAt, clock.now() + 2.5 * MINUTE)
  }
})

t.test("the issuer's refreshAfter brings a refresh forward", async t => {
  const { source, clock, credential } = setUp(t)
  const now = clock.now()
  credential.next({ token: 'early', expiresAt: now + 24 * HOUR, refreshAfter: now + 12 * HOUR })
  await source.current()
  t.equal(source.state().refreshAt, now + 12 * HOUR + SECOND)
})

t.test('a refreshAfter that is past or later than our own time is ignored', async t => {
  for (const refreshAfter of [-1, 0, Number.NaN, 55 * MINUTE]) {
    const { source, clock, credential } = setUp(t)
    const now = clock.now()
    credential.next({ token: 'a', expiresAt: now + HOUR, refreshAfter: now + refreshAfter })
    await source.current()
    t.equal(source.state().refreshAt, now + 50 * MINUTE)
  }
})

t.test('no timer is set further ahead than 15 s', async t => {
  const { source, clock } = setUp(t)
  await source.current()
  t.equal(clock.pending, 1)
  t.equal(clock.nextTimerMs, 15 * SECOND)
  await clock.advance(50 * MINUTE - 5 * SECOND)
  t.ok(clock.nextTimerMs! <= 5 * SECOND)
})

t.test('a request starts a refresh that is due before any timer does', async t => {
  const { source, clock, warm, credential } = setUp(t)
  const first = await source.current()
  clock.moveWall(51 * MINUTE)
  t.equal(warm(), first, 'the token is still good')
  await settle()
  t.equal(credential.calls.length, 2)
  t.equal(warm().authorization, 'Bearer token-2')
})

t.test(
  'after a sleep of the machine an expired token is not handed out, and a new one comes at once',
  async t => {
    const { source, clock, credential } = setUp(t)
    await source.current()
    clock.moveWall(8 * HOUR)
    t.equal(source.state().usable, false)
    t.equal((await source.current()).authorization, 'Bearer token-2')
    t.equal(credential.calls.length, 2)
  },
)

t.test('after a sleep of the machine the timer notices within 15 s, without traffic', async t => {
  const { source, clock } = setUp(t)
  await source.current()
  clock.moveWall(8 * HOUR)
  await clock.advance(15 * SECOND)
  t.equal(source.state().usable, true)
})

t.test('a wall clock set back does not lengthen the life of a token', async t => {
  const { source, clock, warm } = setUp(t)
  await source.current()
  clock.moveWall(-2 * HOUR)
  await clock.advance(51 * MINUTE)
  t.equal(warm().authorization, 'Bearer token-2', 'refreshed by the monotonic clock')
})

t.test('a wall clock set back does not lengthen a back-off', async t => {
  const { source, clock, credential } = setUp(t)
  credential.next(down())
  await refusal(source.current())
  clock.moveWall(-2 * HOUR)
  await clock.advance(SECOND)
  t.equal(source.state().usable, true)
})

t.test('the token service is down within the life of a token: no request fails', async t => {
  const { source, clock, warm, credential, events } = setUp(t)
  const first = await source.current()
  await clock.advance(50 * MINUTE - SECOND)
  credential.otherwise = down()
  for (let second = 0; second < 9.5 * 60; second++) {
    await clock.advance(SECOND)
    if (warm() !== first) t.fail('another token')
  }
  t.ok(events.filter(({ type }) => type === 'failed').length > 5)
  t.match(events.at(-1), { type: 'failed', reason: 'due', serving: true })
  t.match(source.state(), { usable: true, lastError: { kind: 'transient', code: 'http_503' } })
})

t.test('past its end requests fail at once with Retry-After, and nothing is asked in between', async t => {
  const { source, clock, credential } = setUp(t)
  await source.current()
  credential.otherwise = down()
  await clock.advance(HOUR)
  const calls = credential.calls.length
  const errors = await Promise.all(Array.from({ length: 100 }, () => refusal(source.current())))
  t.equal(credential.calls.length, calls)
  const seconds = Number(errors[0]!.headers['retry-after'])
  t.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 60, `retry-after: ${seconds}`)
  t.match(errors[0], { code: 'token_unavailable', status: 503, remedy: 'Nothing to do.' })
  t.match(errors[0]!.message, /client-secret, fake.*batch.*answered with an error/)
})

t.test('service recovers by itself when the back-off ends, without traffic', async t => {
  const { source, clock, credential, fresh } = setUp(t)
  await source.current()
  credential.otherwise = down()
  await clock.advance(3 * HOUR)
  credential.otherwise = fresh
  const seconds = Number((await refusal(source.current())).headers['retry-after'])
  await clock.advance(seconds * SECOND)
  t.equal(source.state().usable, true)
  t.equal(source.state().lastError, undefined)
})

t.test('a request after the back-off does not wait for the timer', async t => {
  const { source, clock, credential } = setUp(t)
  credential.next(down())
  await refusal(source.current())
  clock.moveWall(SECOND)
  t.equal((await source.current()).authorization, 'Bearer token-1')
})

t.test('the service of a token ends 30 s before its expiry, or a tenth of a short life', async t => {
  for (const [lifeMs, reserveMs] of [
    [HOUR, 30 * SECOND],
    [100 * SECOND, 10 * SECOND],
    [4 * SECOND, 400],
  ] as const) {
    const { source, clock, warm, credential } = setUp(t, { lifeMs })
    await source.current()
    credential.otherwise = down(10 * HOUR)
    await clock.advance(lifeMs - reserveMs - 1)
    t.ok(warm(), 'a millisecond before')
    await clock.advance(1)
    await refusal(source.current())
  }
})

t.test('the back-off doubles from 1 s to 60 s and never ends', async t => {
  const { source, clock, credential, events } = setUp(t, { random: () => 1 })
  credential.otherwise = down()
  await refusal(source.current())
  await clock.advance(24 * HOUR)
  const delays = events.map(event => (event.type === 'failed' ? event.retryInMs / SECOND : 0))
  t.strictSame(delays.slice(0, 8), [1, 2, 4, 8, 16, 32, 60, 60])
  t.ok(delays.length > 1400, `${delays.length} attempts in a day`)
})

t.test('the jitter takes up to half off a back-off', async t => {
  const { source, clock, credential, events } = setUp(t, { random: () => 0 })
  credential.otherwise = down()
  await refusal(source.current())
  await clock.advance(10 * SECOND)
  t.match(
    events.slice(0, 4),
    [0.5, 1, 2, 4].map(seconds => ({ retryInMs: seconds * SECOND })),
  )
})

t.test('a Retry-After of 600 s is obeyed, and the token comes right after it', async t => {
  const { source, clock, credential } = setUp(t)
  credential.next(down(600 * SECOND))
  t.equal((await refusal(source.current())).headers['retry-after'], '600')
  await clock.advance(599 * SECOND)
  t.equal((await refusal(source.current())).headers['retry-after'], '1')
  t.equal(credential.calls.length, 1)
  await clock.advance(SECOND)
  t.equal(source.state().usable, true)
})

t.test('a Retry-After beyond an hour is taken for an hour', async t => {
  const { source, credential } = setUp(t)
  credential.next(down(1e12))
  t.equal((await refusal(source.current())).headers['retry-after'], '3600')
})

t.test('an acquisition that hangs ends at the time limit, and the next one may succeed', async t => {
  const { source, clock, credential, events } = setUp(t)
  credential.next(() => new Promise(() => {}))
  const error = refusal(source.current())
  await clock.advance(15 * SECOND)
  t.match((await error).message, /within 15 s/)
  t.match(events, [{ type: 'failed', durationMs: 15 * SECOND, failure: { code: 'TIMEOUT' } }])
  await clock.advance(SECOND)
  t.equal(source.state().usable, true)
})

t.test('a failure that comes after the time limit goes nowhere', async t => {
  const { source, clock, credential, events } = setUp(t)
  const gate = held()
  credential.next(gate.answer, down(HOUR))
  const error = refusal(source.current())
  await clock.advance(15 * SECOND)
  await error
  gate.reject(new Error('too late'))
  await settle()
  t.equal(events.length, 1)
})

t.test('a token that comes after the time limit is used', async t => {
  const { source, clock, warm, credential } = setUp(t)
  const gate = held()
  credential.next(gate.answer, down(10 * MINUTE))
  const error = refusal(source.current())
  await clock.advance(20 * SECOND)
  await error
  gate.resolve({ token: 'late', expiresAt: clock.now() + HOUR })
  await settle()
  t.equal(warm().authorization, 'Bearer late')
  await clock.advance(51 * MINUTE)
  t.not(warm().authorization, 'Bearer late', 'and refreshed in its time')
})

t.test('a token that comes late serves those who wait for the next attempt, should that fail', async t => {
  const { source, clock, credential } = setUp(t)
  const first = held()
  const second = held()
  credential.next(first.answer, second.answer)
  const error = refusal(source.current())
  await clock.advance(16 * SECOND)
  await error
  const waiting = source.current()
  first.resolve({ token: 'late', expiresAt: clock.now() + HOUR })
  await settle()
  second.reject(down())
  t.equal((await waiting).authorization, 'Bearer late')
})

t.test('a token that comes too late replaces no newer one', async t => {
  const { source, clock, warm, credential } = setUp(t)
  const gate = held()
  credential.next(gate.answer)
  const error = refusal(source.current())
  await clock.advance(20 * SECOND)
  await error
  t.equal(warm().authorization, 'Bearer token-1')
  gate.resolve({ token: 'late', expiresAt: clock.now() + HOUR })
  await settle()
  t.equal(warm().authorization, 'Bearer token-1')
})

t.test('a credential that throws instead of rejecting is a failed attempt like any other', async t => {
  const { source, clock, credential } = setUp(t)
  credential.acquire = () => {
    throw new TypeError('broken')
  }
  t.equal((await refusal(source.current())).code, 'token_unavailable')
  await clock.advance(HOUR)
  t.match(source.state(), { lastError: { kind: 'transient' } })
})

const garbage: readonly [title: string, answer: unknown, code: string][] = [
  ['nothing', undefined, 'token_empty'],
  ['null', null, 'token_empty'],
  ['no token', {}, 'token_empty'],
  ['an empty token', { token: '', expiresAt: 9e15 }, 'token_empty'],
  ['a token that is no string', { token: 42, expiresAt: 9e15 }, 'token_empty'],
  ['a line break in the token', { token: 'a\r\nx-evil: 1', expiresAt: 9e15 }, 'token_malformed'],
  ['a blank in the token', { token: 'Bearer a', expiresAt: 9e15 }, 'token_malformed'],
  ['a NUL in the token', { token: 'a\0b', expiresAt: 9e15 }, 'token_malformed'],
  ['a non-ASCII token', { token: 'tökén', expiresAt: 9e15 }, 'token_malformed'],
  ['a token of a megabyte', { token: 'a'.repeat(2 ** 20), expiresAt: 9e15 }, 'token_malformed'],
  ['no lifetime', { token: 'opaque' }, 'token_without_lifetime'],
  ['a lifetime that is no number', { token: 'opaque', expiresAt: Number.NaN }, 'token_without_lifetime'],
  ['a lifetime of zero', { token: 'opaque', expiresAt: Date.UTC(2026, 0, 1) }, 'token_without_lifetime'],
  ['an expiry in the past', { token: 'opaque', expiresAt: Date.UTC(2025, 0, 1) }, 'token_expired'],
  ['a JWT that has expired', { token: fakeJwt({ exp: 1_600_000_000 }) }, 'token_expired'],
]

for (const [title, answer, code] of garbage) {
  t.test(`an answer with ${title} is refused with a reason`, async t => {
    const { source, credential, events } = setUp(t)
    credential.next(() => answer as AcquiredToken)
    const error = await refusal(source.current())
    t.match(source.state(), { usable: false, lastError: { code } })
    t.match(events, [{ type: 'failed', failure: { code } }])
    t.not(error.remedy, '')
  })
}

t.test('a refused answer does not displace the token in service', async t => {
  const { source, clock, warm, credential } = setUp(t)
  const first = await source.current()
  credential.otherwise = { token: '', expiresAt: 9e15 }
  await clock.advance(55 * MINUTE)
  t.equal(warm(), first)
})

t.test('an answer without a lifetime lives as long as its JWT says', async t => {
  const { source, clock, credential } = setUp(t)
  const exp = clock.now() / 1000 + 1800
  credential.next({ token: fakeJwt({ exp }) })
  t.equal((await source.current()).expiresAt, exp * 1000)
})

t.test('a JWT for another audience than the expected one is refused, and the reason names both', async t => {
  const { source, clock, credential } = setUp(t, { audience: AUDIENCE })
  credential.next({
    token: fakeJwt({ aud: 'https://batch.core.windows.net' }),
    expiresAt: clock.now() + HOUR,
  })
  const error = await refusal(source.current())
  t.match(error.message, 'for https://batch.core.windows.net, not for https://batch.core.windows.net/')
  t.match(source.state(), { lastError: { code: 'audience_mismatch', kind: 'configuration' } })
})

t.test('a JWT for the expected audience, or an opaque token, is accepted', async t => {
  for (const token of [fakeJwt({ aud: AUDIENCE }), fakeJwt({ aud: ['x', AUDIENCE] }), 'opaque', 'a.b.c']) {
    const { source, clock, credential, events } = setUp(t, { audience: AUDIENCE })
    credential.next({ token, expiresAt: clock.now() + HOUR })
    t.equal((await source.current()).authorization, `Bearer ${token}`)
    t.equal(events.length, 1)
  }
})

t.test('without an expected audience a differing one is warned of, once', async t => {
  const { source, clock, credential, events } = setUp(t)
  let n = 0
  credential.otherwise = () => ({
    token: fakeJwt({ aud: '00000000-0000-0000-0000-000000000001', n: ++n }),
    expiresAt: clock.now() + HOUR,
  })
  t.ok(await source.current())
  await clock.advance(2 * HOUR)
  t.ok(n > 1)
  const warnings = events.filter(({ type }) => type === 'warned')
  t.match(warnings, [{ code: 'audience_differs', message: /00000000-0000-0000-0000-000000000001/ }])
  t.equal(warnings.length, 1)
})

t.test("without an expected audience the scope's own is not warned of", async t => {
  for (const aud of ['https://batch.core.windows.net/', 'https://batch.core.windows.net', undefined]) {
    const { source, clock, credential, events } = setUp(t)
    credential.next({ token: fakeJwt({ aud }), expiresAt: clock.now() + HOUR })
    await source.current()
    t.strictSame(
      events.map(({ type }) => type),
      ['acquired'],
    )
  }
})

t.test(
  'a credential that keeps giving the same token back is asked every 30 s at most, then ever less time apart',
  async t => {
    const { source, clock, warm, credential, events } = setUp(t)
    const fixed = { token: 'same', expiresAt: clock.now() + HOUR }
    credential.otherwise = fixed
    const first = await source.current()
    await clock.advance(HOUR - 31 * SECOND)
    t.equal(warm(), first, 'the same object')
    const asked = credential.calls.length
    t.ok(asked > 15 && asked < 30, `asked ${asked} times in 10 minutes`)
    t.equal(events.filter(event => event.type === 'acquired' && event.changed).length, 1)
  },
)

t.test('the same token, about to expire, is a failure with back-off and not a loop', async t => {
  const { source, clock, credential } = setUp(t, { random: () => 1 })
  credential.otherwise = { token: 'same', expiresAt: clock.now() + HOUR }
  await source.current()
  await clock.advance(HOUR - 29 * SECOND)
  const asked = credential.calls.length
  t.match(await refusal(source.current()), { code: 'token_unavailable' })
  await clock.advance(25 * SECOND)
  t.ok(credential.calls.length - asked <= 5, `${credential.calls.length - asked} more`)
  t.match(source.state(), { lastError: { code: 'token_expiring' } })
})

t.test('the same token with a later expiry lives on', async t => {
  const { source, clock, credential } = setUp(t)
  credential.otherwise = () => ({ token: 'file', expiresAt: clock.now() + 5 * MINUTE })
  await source.current()
  await clock.advance(HOUR)
  t.equal(source.state().usable, true)
  t.ok(credential.calls.length < 30, `${credential.calls.length} reads`)
})

t.test('tokens of 4 s over 200 rollovers: none is handed out expired, one acquisition each', async t => {
  const { source, clock, credential, warm } = setUp(t, { lifeMs: 4 * SECOND, random: Math.random })
  await source.current()
  const used = new Set<string>()
  for (let tick = 0; tick < 4_000; tick++) {
    await clock.advance(100)
    const token = warm()
    used.add(token.authorization)
    if (token.expiresAt <= clock.now()) t.fail('expired')
  }
  t.ok(used.size >= 190, `${used.size} rollovers`)
  t.ok(credential.calls.length <= used.size + 1, `${credential.calls.length} acquisitions`)
})

// --- upstream 401

t.test('a 401 for a token that has been replaced gives the current one, without an acquisition', async t => {
  const { source, clock, credential, warm } = setUp(t)
  const used = await source.current()
  await clock.advance(51 * MINUTE)
  const calls = credential.calls.length
  t.equal(await source.rejected(used, []), warm())
  t.equal(credential.calls.length, calls)
})

t.test('fifty 401s for the current token make one forced acquisition, shared by all', async t => {
  const { source, credential, warm } = setUp(t)
  const used = await source.current()
  const tokens = await Promise.all(Array.from({ length: 50 }, () => source.rejected(used, [])))
  t.strictSame(new Set(tokens), new Set([warm()]))
  t.equal(warm().authorization, 'Bearer token-2')
  t.strictSame(credential.calls[1], { scope: SCOPE, force: true })
  t.equal(credential.calls.length, 2)
})

t.test('a 401 that persists forces no more than one acquisition in 30 s', async t => {
  const { source, clock, credential, warm } = setUp(t)
  const second = await source.rejected(await source.current(), [])
  t.equal(await source.rejected(second!, []), null)
  t.equal(credential.calls.length, 2)
  t.equal(warm(), second, 'the token stays in service')
  await clock.advance(30 * SECOND)
  t.equal((await source.rejected(second!, []))?.authorization, 'Bearer token-3')
})

t.test('a forced acquisition that brings the same token gives null', async t => {
  const { source, clock, credential, warm } = setUp(t)
  credential.otherwise = { token: 'same', expiresAt: clock.now() + HOUR }
  const used = await source.current()
  t.equal(await source.rejected(used, []), null)
  t.equal(warm(), used)
  t.equal(source.state().refreshAt, clock.now() + 50 * MINUTE, 'and changes no plan')
})

t.test('a forced acquisition that fails gives null and keeps the old token', async t => {
  const { source, credential, warm, clock } = setUp(t)
  const used = await source.current()
  credential.next(down())
  t.equal(await source.rejected(used, []), null)
  t.equal(warm(), used)
  t.match(source.state(), { usable: true, lastError: { code: 'http_503' } })
  await clock.advance(SECOND)
  t.equal(warm().authorization, 'Bearer token-2', 'and it is tried again in the background')
})

t.test('a 401 during a back-off asks nobody', async t => {
  const { source, credential, clock } = setUp(t)
  const used = await source.current()
  credential.otherwise = down(2 * MINUTE)
  await clock.advance(51 * MINUTE)
  const calls = credential.calls.length
  t.equal(await source.rejected(used, []), null)
  t.equal(credential.calls.length, calls)
})

t.test('a 401 while a refresh is under way waits for that one', async t => {
  const { source, clock, credential, fresh } = setUp(t)
  const used = await source.current()
  const gate = held()
  credential.next(gate.answer)
  await clock.advance(50 * MINUTE)
  const replacement = source.rejected(used, [])
  gate.resolve(fresh())
  t.equal((await replacement)?.authorization, 'Bearer token-2')
  t.equal(credential.calls.length, 2)
})

t.test('a 401 never rejects, even without any token in hand', async t => {
  const { source, credential } = setUp(t)
  credential.otherwise = down()
  t.equal(await source.rejected({ authorization: 'Bearer gone', expiresAt: 0 }, []), null)
})

const CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}'
const CHALLENGE = `Bearer error="insufficient_claims", claims="${Buffer.from(CLAIMS).toString('base64')}"`

t.test('the claims of an insufficient_claims challenge go to the credential, decoded', async t => {
  const { source, credential, clock } = setUp(t)
  const fresh = await source.rejected(await source.current(), ['Basic realm="x"', CHALLENGE])
  t.equal(fresh?.authorization, 'Bearer token-2')
  t.strictSame(credential.calls[1], { scope: SCOPE, force: true, claims: CLAIMS })
  await clock.advance(51 * MINUTE)
  t.equal(credential.calls[2]?.claims, CLAIMS, 'and with each refresh, or it would end in the same challenge')
})

t.test('claims that the credential cannot satisfy are not asked for again', async t => {
  const { source, credential, clock } = setUp(t)
  const used = await source.current()
  credential.next(down())
  t.equal(await source.rejected(used, [CHALLENGE]), null)
  await clock.advance(SECOND)
  t.equal(credential.calls.length, 3)
  t.equal(credential.calls[2]?.claims, undefined)
})

t.test('claims that worked once but later do not are given up', async t => {
  const { source, credential, clock } = setUp(t)
  await source.rejected(await source.current(), [CHALLENGE])
  credential.next(down())
  await clock.advance(51 * MINUTE)
  t.strictSame(
    credential.calls.slice(2, 4).map(({ claims }) => claims),
    [CLAIMS, undefined],
  )
})

// --- what people see

t.test('the state shows who, until when and from where, and never the token', async t => {
  const { source, clock, credential } = setUp(t, { audience: AUDIENCE })
  t.match(source.state(), {
    attempted: false,
    usable: false,
    scope: SCOPE,
    audience: AUDIENCE,
    routes: ['jobs'],
  })
  const who = { upn: 'ann@contoso.com', oid: 'o', tid: 't', azp: 'client', xms_mirid: '/subscriptions/s/x' }
  const token = fakeJwt({ aud: AUDIENCE, ...who, roles: ['hidden'] })
  credential.next({ token, expiresAt: clock.now() + HOUR })
  const state = await source.prefetch()
  t.strictSame(state, {
    routes: ['jobs'],
    scope: SCOPE,
    audience: AUDIENCE,
    credential: 'client-secret',
    label: 'client-secret, fake',
    notes: [],
    attempted: true,
    usable: true,
    subject: { upn: 'ann@contoso.com', appid: 'client', oid: 'o', tid: 't', xms_mirid: '/subscriptions/s/x' },
    expiresAt: clock.now() + HOUR,
    lastRefreshAt: clock.now(),
    refreshAt: clock.now() + 50 * MINUTE,
  })
  t.notOk(JSON.stringify(state).includes(token.split('.')[1]!))
})

t.test('claims cannot bring control characters to a terminal', async t => {
  const { source, clock, credential } = setUp(t)
  credential.next({ token: fakeJwt({ upn: 'a\u001b[2Jb\nc', oid: 5 }), expiresAt: clock.now() + HOUR })
  t.strictSame((await source.prefetch()).subject, { upn: 'a?[2Jb?c' })
})

t.test('the state names the last failure, when it was and when the next attempt is', async t => {
  const { source, clock, credential } = setUp(t)
  credential.next(
    new TokenFailure({
      kind: 'interaction',
      code: 'invalid_grant',
      aadsts: 700082,
      detail: 'Expired',
      remedy: 'Run: az login',
    }),
  )
  t.match(await source.prefetch(), {
    attempted: true,
    usable: false,
    lastError: {
      kind: 'interaction',
      code: 'invalid_grant',
      aadsts: 700082,
      detail: 'Expired',
      remedy: 'Run: az login',
      at: clock.now(),
      retryAt: clock.now() + 500,
    },
  })
})

t.test('prefetch makes the first attempt of every source and does not reject', async t => {
  const { cache, credential } = setUp(t)
  cache.source(new FakeCredential(down(), { key: 'broken' }), SCOPE)
  const states = await cache.prefetch()
  t.equal(credential.calls.length, 1)
  t.same(states.map(({ attempted, usable }) => [attempted, usable]).sort(), [
    [true, false],
    [true, true],
  ])
  t.equal(cache.snapshot().length, 2)
})

t.test('neither a token nor a secret is in any event, error, remedy or state', async t => {
  const { source, clock, credential, events, cache } = setUp(t)
  const canary = 'CANARY-5f2e'
  const seen: unknown[] = []
  const leaks: Answer[] = [
    { token: canary, expiresAt: clock.now() + HOUR },
    new Error(`invalid_client: client_secret=${canary}`, { cause: new Error(canary) }),
    { token: `${canary}\r\n`, expiresAt: 9e15 },
    { token: `${canary} ` },
    { token: canary },
    { token: fakeJwt({ aud: AUDIENCE, exp: 1, [canary]: canary }) },
  ]
  for (const leak of leaks) {
    credential.otherwise = leak
    seen.push(await source.prefetch(), cache.snapshot())
    try {
      await source.current()
    } catch (error) {
      const { message, remedy, headers, cause, stack } = error as GatewayError
      seen.push({ message, remedy, headers, cause, stack }, (error as GatewayError).problem('id'))
    }
    await clock.advance(3 * HOUR)
  }
  t.ok(events.filter(({ type }) => type === 'failed').length > leaks.length)
  const text =
    JSON.stringify([seen, events]) + events.map(event => (event.type === 'failed' ? event.failure.stack : ''))
  t.notMatch(text, canary)
})

// --- end of life

t.test('an evicted state sets no more timers, and its source goes on with a new one', async t => {
  const { cache, clock, source, credential } = setUp(t, { maxEntries: 1 })
  await source.current()
  const other = cache.source(credential, 'https://ml.azure.com/.default')
  t.equal(clock.pending, 0, 'the timer of the evicted state is gone')
  await other.current()
  t.equal(clock.pending, 1)
  t.equal((await source.current()).authorization, 'Bearer token-3')
  t.equal(clock.pending, 1)
})

t.test(
  'retain stops the refreshing of sources that are gone after a reload, and keeps the others warm',
  async t => {
    const { cache, clock, source, credential, warm } = setUp(t)
    const old = cache.source(credential, 'https://ml.azure.com/.default')
    await Promise.all([source.current(), old.current()])
    const token = warm()
    const again = cache.source(credential, SCOPE, { route: 'renamed' })
    cache.retain([again])
    t.strictSame(again.state().routes, ['renamed'])
    t.equal(cache.snapshot().length, 1)
    t.equal(clock.pending, 1)
    t.equal(again.current(), token)
  },
)

t.test('close stops all timers; a good token is served to its end, then requests fail', async t => {
  const { cache, clock, source, warm } = setUp(t)
  const token = await source.current()
  cache.close()
  t.equal(clock.pending, 0)
  await clock.advance(55 * MINUTE)
  t.equal(warm(), token)
  await clock.advance(5 * MINUTE)
  t.match(await refusal(source.current()), { code: 'token_unavailable', message: /stopping/ })
})

t.test('an answer that comes after close sets no timer', async t => {
  const { cache, clock, source, credential } = setUp(t)
  const gate = held()
  credential.next(gate.answer)
  const error = refusal(source.current())
  await clock.advance(20 * SECOND)
  await error
  cache.close()
  gate.resolve({ token: 'late', expiresAt: clock.now() + HOUR })
  await settle()
  t.equal(clock.pending, 0)
})
