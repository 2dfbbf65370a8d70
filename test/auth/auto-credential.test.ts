import { once } from 'node:events'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { AutoCredential, type Candidate, candidateTypes } from '../../src/auth/auto-credential.ts'
import { type CredentialDeps, createCredential } from '../../src/auth/credentials.ts'
import { TokenFailure } from '../../src/auth/failures.ts'
import { probeImds } from '../../src/auth/imds.ts'
import { TokenCache } from '../../src/auth/token-cache.ts'
import { systemClock } from '../../src/clock.ts'
import type { CredentialType } from '../../src/config/config.ts'
import { startStandin } from '../../src/standin/standin.ts'
import { type Answer, FakeCredential, failureOf } from '../helpers/fake-credential.ts'
import { ManualClock } from '../helpers/manual-clock.ts'

const SCOPE = 'https://batch.core.windows.net//.default'
const good = { token: 'good', expiresAt: Date.UTC(2030, 0, 1) }

const failure = (kind: TokenFailure['kind'], detail = kind as string, remedy = `remedy for ${kind}`) =>
  new TokenFailure({ kind, code: kind, detail, remedy })

/** An `auto` over fakes, each with what it answers at first and ever after. */
function auto(answers: Partial<Record<CredentialType, Answer>>, clock = new ManualClock()) {
  const fakes = Object.entries(answers).map(
    ([type, answer]) => new FakeCredential(answer, { type: type as CredentialType, key: type }),
  )
  const candidates: Candidate[] = fakes.map(credential => ({ credential }))
  const credential = new AutoCredential({ key: 'auto', candidates, clock, candidateTimeoutMs: 15_000 })
  return { credential, clock, fakes, calls: () => fakes.map(({ calls }) => calls.length) }
}

t.test('the first candidate that yields a token is kept and named, with why the others lost', async t => {
  const { credential, calls } = auto({
    environment: failure('unavailable', 'AZURE_TENANT_ID is not set'),
    'managed-identity': failure('unavailable', 'No endpoint answered'),
    'azure-cli': good,
    'azure-powershell': good,
  })
  t.equal(credential.label, 'auto')
  t.equal((await credential.acquire(SCOPE)).token, 'good')
  t.equal(credential.label, 'azure-cli, fake (chosen by auto)')
  t.strictSame(credential.describe(), [
    'tried: environment: AZURE_TENANT_ID is not set',
    'tried: managed-identity: No endpoint answered',
  ])
  await credential.acquire('https://ml.azure.com/.default')
  t.strictSame(calls(), [1, 1, 2, 0], 'the others are not asked again')
})

t.test('the winner is kept when it fails later', async t => {
  const { credential, fakes, calls } = auto({ 'azure-cli': good, 'azure-powershell': good })
  await credential.acquire(SCOPE)
  fakes[0]!.otherwise = failure('interaction')
  t.match(await failureOf(credential.acquire(SCOPE)), { kind: 'interaction' })
  t.strictSame(calls(), [2, 0])
})

t.test('when none works, the failure says what was tried, and the nearest one gives the remedy', async t => {
  const { credential } = auto({
    environment: failure('unavailable', 'AZURE_TENANT_ID is not set'),
    'azure-cli': failure('interaction', 'The Azure CLI is not signed in', 'Run: az login'),
    'azure-powershell': failure('unavailable', 'Not installed'),
  })
  t.match(await failureOf(credential.acquire(SCOPE)), {
    kind: 'interaction',
    code: 'no_credential',
    remedy: 'Run: az login',
    message:
      'No Azure credential worked. Tried: environment: AZURE_TENANT_ID is not set; ' +
      'azure-cli: The Azure CLI is not signed in; azure-powershell: Not installed',
  })
})

t.test('when nothing is even there, the remedy is to sign in or to choose', async t => {
  const { credential } = auto({ environment: failure('unavailable'), 'azure-cli': failure('unavailable') })
  t.match(await failureOf(credential.acquire(SCOPE)), {
    kind: 'unavailable',
    remedy: /az login.*--credential/,
  })
})

t.test('the next attempt tries all again by itself', async t => {
  const { credential, fakes } = auto({
    environment: failure('unavailable'),
    'azure-cli': failure('interaction'),
  })
  await failureOf(credential.acquire(SCOPE))
  fakes[1]!.otherwise = good
  t.equal((await credential.acquire(SCOPE)).token, 'good')
})

t.test('two scopes at once choose once', async t => {
  const { credential, calls } = auto({ environment: failure('unavailable'), 'azure-cli': good })
  await Promise.all([credential.acquire(SCOPE), credential.acquire('https://ml.azure.com/.default')])
  t.strictSame(calls(), [1, 2])
})

t.test('a configured environment that fails stops the search', async t => {
  for (const kind of ['configuration', 'transient', 'tls', 'interaction'] as const) {
    const { credential, calls } = auto({ environment: failure(kind, 'refused'), 'azure-cli': good })
    t.match(await failureOf(credential.acquire(SCOPE)), { kind, message: 'refused' })
    t.strictSame(calls(), [1, 0])
  }
})

t.test('a passing fault of workload identity stops the search, a refusal does not', async t => {
  for (const [kind, later] of [
    ['transient', 0],
    ['tls', 0],
    ['configuration', 1],
    ['unavailable', 1],
  ] as const) {
    const { credential, calls } = auto({ 'workload-identity': failure(kind), 'azure-cli': good })
    await credential.acquire(SCOPE).catch(() => undefined)
    t.strictSame(calls(), [1, later], kind)
  }
})

t.test('a candidate that hangs is given up after its time, and the next one tried', async t => {
  const { credential, clock } = auto({ 'azure-cli': () => new Promise(() => {}), 'azure-powershell': good })
  const answer = credential.acquire(SCOPE)
  await clock.advance(15_000)
  t.equal((await answer).token, 'good')
  t.match(credential.describe(), [/azure-cli: The Azure CLI gave no token within 15 s/])
  t.equal(clock.pending, 0)
})

t.test('a candidate whose token is of no use has lost', async t => {
  const { credential } = auto({
    environment: failure('unavailable'),
    'managed-identity': { token: '' },
    'azure-cli': good,
  })
  t.equal((await credential.acquire(SCOPE)).token, 'good')
  t.match(credential.describe()[1], /managed-identity: The answer holds no token/)
})

t.test('through the token cache: the state names winner and losers', async t => {
  const { credential, clock } = auto({ environment: failure('unavailable', 'not set'), 'azure-cli': good })
  const cache = new TokenCache({
    clock,
    refreshBeforeMs: 600_000,
    timeoutMs: 15_000,
    maxEntries: 10,
    onEvent: () => {},
  })
  t.teardown(() => cache.close())
  t.match(await cache.source(credential, SCOPE).prefetch(), {
    credential: 'auto',
    label: 'azure-cli, fake (chosen by auto)',
    notes: ['tried: environment: not set'],
  })
})

const order = [
  'environment',
  'workload-identity',
  'managed-identity',
  'azure-cli',
  'azure-powershell',
  'azure-developer-cli',
]

t.test('AZURE_TOKEN_CREDENTIALS chooses prod, dev or one', async t => {
  t.strictSame(candidateTypes(undefined), order)
  t.strictSame(candidateTypes(' '), order)
  t.strictSame(candidateTypes('prod'), order.slice(0, 3))
  t.strictSame(candidateTypes(' DEV '), order.slice(3))
  t.strictSame(candidateTypes('azurecliCREDENTIAL'), ['azure-cli'])
})

t.test('an unknown AZURE_TOKEN_CREDENTIALS fails at once and names the valid values', async t => {
  const deps = {
    env: { AZURE_TOKEN_CREDENTIALS: 'everything' },
    readFile: async () => '',
    clock: systemClock,
  }
  t.throws(() => createCredential({ type: 'auto' }, deps), {
    name: 'TokenFailure',
    kind: 'configuration',
    remedy: /prod, dev or one of EnvironmentCredential, .*AzureDeveloperCliCredential/,
  })
})

// --- with the real library

const standin = await startStandin()
t.teardown(() => standin.close())
t.beforeEach(() => standin.reset())
process.env['AZURE_POD_IDENTITY_AUTHORITY_HOST'] = standin.imds.url

/** A PATH with these scripts and a shell's tools only. */
async function usePath(t: Test, scripts: Readonly<Record<string, string>>): Promise<string> {
  const dir = t.testdir()
  await mkdir(dir, { recursive: true })
  for (const [name, script] of Object.entries(scripts)) {
    await writeFile(join(dir, name), `#!/bin/sh\n${script}\n`)
    await chmod(join(dir, name), 0o755)
  }
  process.env['PATH'] = `${dir}:/usr/bin:/bin`
  return dir
}

const realDeps = (env: CredentialDeps['env']): CredentialDeps => ({
  env: {
    AZURE_POD_IDENTITY_AUTHORITY_HOST: standin.imds.url,
    AZURE_AUTHORITY_HOST: standin.entra.url,
    ...env,
  },
  readFile: path => readFile(path, 'utf8'),
  clock: systemClock,
  ca: [standin.caPem],
})

const azAnswer = () =>
  JSON.stringify({ accessToken: 'from-az', expires_on: Math.floor(Date.now() / 1000) + 3600 })

t.test('on a workstation each candidate loses for a reason of its own, until az wins', async t => {
  await standin.faults.imds.refuseConnections()
  await usePath(t, { az: `echo '${azAnswer()}'` })
  const credential = createCredential({ type: 'auto' }, realDeps({}))
  t.equal((await credential.acquire(SCOPE)).token, 'from-az')
  t.match(credential.label, /^azure-cli/)
  t.strictSame(credential.describe?.(), [
    'tried: environment: AZURE_TENANT_ID, AZURE_CLIENT_ID are not set',
    'tried: workload-identity: AZURE_FEDERATED_TOKEN_FILE, AZURE_TENANT_ID, AZURE_CLIENT_ID are not set',
    'tried: managed-identity: No managed identity endpoint answered within 1 s',
  ])
})

t.test('where nothing works every candidate says why', async t => {
  await standin.faults.imds.refuseConnections()
  await usePath(t, { az: `echo "Please run 'az login' to setup account." >&2; exit 1`, azd: 'exit 1' })
  const failure = await failureOf(createCredential({ type: 'auto' }, realDeps({})).acquire(SCOPE))
  t.match(failure, { kind: 'interaction', code: 'no_credential', remedy: /^Run: az login/ })
  const reasons = [
    /environment: .* not set/,
    /workload-identity: .* not set/,
    /managed-identity: No managed identity endpoint/,
    /azure-cli: The Azure CLI is not signed in/,
    /azure-powershell: Azure PowerShell is not on the PATH/,
    /azure-developer-cli: The Azure Developer CLI gave no token/,
  ]
  for (const reason of reasons) t.match(failure.message, reason)
})

t.test('on Azure the managed identity wins after one look, and az is not run', async t => {
  await usePath(t, { az: 'exit 1' })
  const credential = createCredential({ type: 'auto' }, realDeps({}))
  await credential.acquire(SCOPE)
  t.match(credential.label, /^managed identity, system-assigned/)
  const [look, request] = standin.imds.requests
  t.equal(look?.headers['metadata'], undefined, 'the look makes no token')
  t.equal(request?.headers['metadata'], 'true')
  t.equal(standin.imds.requests.length, 2)
})

t.test('a service principal in the environment comes first', async t => {
  const env = {
    AZURE_TENANT_ID: standin.tenantId,
    AZURE_CLIENT_ID: standin.clientId,
    AZURE_CLIENT_SECRET: standin.clientSecret,
  }
  const credential = createCredential({ type: 'auto' }, realDeps(env))
  await credential.acquire(SCOPE)
  t.match(credential.label, /^environment, client /)
  t.equal(standin.imds.requests.length, 0)
  const wrong = createCredential({ type: 'auto' }, realDeps({ ...env, AZURE_CLIENT_SECRET: 'wrong' }))
  t.match(
    await failureOf(wrong.acquire(SCOPE)),
    { aadsts: 7000215 },
    'and when it fails, nothing else is tried',
  )
  t.equal(standin.imds.requests.length, 0)
})

t.test('AZURE_TOKEN_CREDENTIALS=AzureCliCredential asks az alone', async t => {
  await usePath(t, {})
  const credential = createCredential(
    { type: 'auto' },
    realDeps({ AZURE_TOKEN_CREDENTIALS: 'AzureCliCredential' }),
  )
  t.match(await failureOf(credential.acquire(SCOPE)), {
    message: /Tried: azure-cli: The Azure CLI is not on the PATH$/,
  })
  t.equal(standin.imds.requests.length, 0)
})

// --- the look for IMDS

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close().closeAllConnections())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

t.test('any answer is a sign of IMDS, except that of a Docker Desktop without network', async t => {
  const bad = await serve(t, (_request, response) => response.writeHead(400).end('{}'))
  t.equal(await probeImds(bad, 1000), true)
  const docker = await serve(t, (_request, response) =>
    response.writeHead(403).end('A socket operation was attempted to an unreachable network.'),
  )
  t.equal(await probeImds(docker, 1000), false)
})

t.test('silence, a closed port and a value that is no URL are signs of none', async t => {
  const silent = await serve(t, () => {})
  t.equal(await probeImds(silent, 50), false)
  const endless = await serve(t, (_request, response) => response.writeHead(200).write('x'))
  t.equal(await probeImds(endless, 50), false)
  t.equal(await probeImds('http://127.0.0.1:1', 1000), false)
  t.equal(await probeImds('not a url', 1000), false)
})
