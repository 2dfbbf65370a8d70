// The real identity library against the stand-in's IMDS. The library chooses the kind of managed identity once per
// process, and keeps its tokens process-wide, so this file has one kind and each test an identity or scope of its own.
import t from 'tap'
import { type CredentialDeps, createCredential } from '../../src/auth/credentials.ts'
import { TokenCache } from '../../src/auth/token-cache.ts'
import { systemClock } from '../../src/clock.ts'
import { startStandin } from '../../src/standin/standin.ts'
import { failureOf } from '../helpers/fake-credential.ts'

const standin = await startStandin()
t.teardown(() => standin.close())
t.beforeEach(() => standin.reset())
process.env['AZURE_POD_IDENTITY_AUTHORITY_HOST'] = standin.imds.url

const deps: CredentialDeps = { env: {}, readFile: async () => '', clock: systemClock, requestTimeoutMs: 1000 }
const { userAssigned } = standin.imds

let scopes = 0
/** A scope that the library has no token for yet. */
const newScope = () => `https://resource-${++scopes}.example/.default`

const lastQuery = () => new URL(standin.imds.requests.at(-1)!.url, standin.imds.url).searchParams

t.test('the Batch scope asks IMDS for the resource with its slash at the end', async t => {
  const { token, expiresAt, refreshAfter } = await createCredential(
    { type: 'managed-identity' },
    deps,
  ).acquire(standin.batch.scope)
  t.equal(lastQuery().get('resource'), 'https://batch.core.windows.net/')
  const claims = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())
  t.equal(claims.aud, standin.batch.audience)
  t.ok(expiresAt! > Date.now() + 86_000_000)
  t.ok(refreshAfter! < Date.now() + 43_300_000, 'a long life has its refresh at half')
})

t.test('each kind of id is sent as what it is', async t => {
  const { clientId, objectId, resourceId } = userAssigned
  const ids = [
    [{ clientId }, 'client_id', clientId],
    [{ objectId }, 'object_id', objectId],
    [{ resourceId }, 'msi_res_id', resourceId],
    [{ clientId: resourceId }, 'msi_res_id', resourceId],
  ] as const
  for (const [id, parameter, value] of ids) {
    const credential = createCredential({ type: 'managed-identity', ...id }, deps)
    await credential.acquire(newScope())
    t.equal(lastQuery().get(parameter), value, credential.label)
  }
})

t.test('the label says which identity it is', async t => {
  const label = (id: object) => createCredential({ type: 'managed-identity', ...id }, deps).label
  t.equal(label({}), 'managed identity, system-assigned')
  t.equal(label({ clientId: 'c' }), 'managed identity, client c')
  t.equal(label({ clientId: '/subscriptions/s' }), 'managed identity, resource /subscriptions/s')
  t.equal(label({ objectId: 'o' }), 'managed identity, object o')
})

t.test('an identity that the machine does not have is a configuration failure', async t => {
  const credential = createCredential({ type: 'managed-identity', clientId: 'unknown' }, deps)
  t.match(await failureOf(credential.acquire(newScope())), {
    kind: 'configuration',
    message: /no such identity.*HTTP 400/,
    remedy: /Assign the identity/,
  })
})

t.test('an IMDS that is down, gone or busy is transient, and costs one request', async t => {
  for (const status of [404, 410, 500, 503]) {
    standin.faults.imds.next({ kind: 'status', status })
    const before = standin.imds.requests.length
    const failure = await failureOf(createCredential({ type: 'managed-identity' }, deps).acquire(newScope()))
    t.match(failure, { kind: 'transient', message: new RegExp(`HTTP ${status}`) })
    t.equal(standin.imds.requests.length - before, 1)
  }
})

t.test('a 429 of IMDS with Retry-After is not waited for, but told', async t => {
  standin.faults.imds.next({ kind: 'status', status: 429, retryAfter: 600 })
  const failure = await failureOf(createCredential({ type: 'managed-identity' }, deps).acquire(newScope()))
  t.match(failure, { kind: 'transient', retryAfterMs: 600_000 })
})

t.test('a machine without IMDS is told from one whose IMDS is busy', async t => {
  const credential = createCredential({ type: 'managed-identity' }, deps)
  standin.faults.imds.next({ kind: 'silent' })
  const remedy = /only on Azure compute/
  t.match(await failureOf(credential.acquire(newScope())), { kind: 'unavailable', code: 'TIMEOUT', remedy })
  await standin.faults.imds.refuseConnections()
  t.match(await failureOf(credential.acquire(newScope())), {
    kind: 'unavailable',
    code: 'ECONNREFUSED',
    remedy,
  })
})

t.test(
  'what went wrong is told to the credential it happened to, though the library shares one pipeline',
  async t => {
    standin.faults.imds.set({ kind: 'status', status: 503 }, { when: ({ url }) => url.includes('first') })
    const first = createCredential({ type: 'managed-identity', clientId: 'first' }, deps)
    const second = createCredential({ type: 'managed-identity', clientId: 'second' }, deps)
    const [one, two] = await Promise.all([
      failureOf(first.acquire(newScope())),
      failureOf(second.acquire(newScope())),
    ])
    t.match(one.message, /HTTP 503/)
    t.match(two.message, /HTTP 400/)
  },
)

t.test('an upstream 401 gets the same token from IMDS, hence no replay and no loop', async t => {
  const cache = new TokenCache({
    clock: systemClock,
    refreshBeforeMs: 600_000,
    timeoutMs: 5_000,
    maxEntries: 10,
    onEvent: () => {},
  })
  t.teardown(() => cache.close())
  const source = cache.source(createCredential({ type: 'managed-identity' }, deps), newScope())
  const used = await source.current()
  t.equal(await source.rejected(used, []), null)
  t.equal(source.current(), used)
  t.equal(standin.imds.requests.length, 1)
})

t.test('two ids at once are refused when the credential is made', async t => {
  t.throws(() => createCredential({ type: 'managed-identity', clientId: 'c', objectId: 'o' }, deps), {
    kind: 'configuration',
    message: /clientId and objectId/,
  })
})
