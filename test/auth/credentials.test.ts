import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { type CredentialDeps, createCredential } from '../../src/auth/credentials.ts'
import { systemClock } from '../../src/clock.ts'
import type { CredentialConfig } from '../../src/config/config.ts'
import { startStandin } from '../../src/standin/standin.ts'
import { failureOf, fakeJwt } from '../helpers/fake-credential.ts'
import { ManualClock } from '../helpers/manual-clock.ts'

const SCOPE = 'https://batch.core.windows.net//.default'
const deps: CredentialDeps = { env: {}, readFile: path => readFile(path, 'utf8'), clock: systemClock }
const app = {
  type: 'client-secret',
  tenantId: 'contoso.com',
  clientId: 'c',
  clientSecretFile: '/secret',
} as const

const refused: readonly [
  title: string,
  config: CredentialConfig,
  env: CredentialDeps['env'],
  pattern: object,
][] = [
  ['an http authority', { ...app, authorityHost: 'http://localhost:1' }, {}, { message: /authorityHost/ }],
  [
    'an authority that is no URL',
    { ...app, authorityHost: 'login.microsoftonline.us' },
    {},
    { remedy: /https:\/\// },
  ],
  [
    'an http authority in the environment',
    app,
    { AZURE_AUTHORITY_HOST: 'http://x' },
    { message: /AZURE_AUTHORITY_HOST/ },
  ],
  ['the tenant common', { ...app, tenantId: 'common' }, {}, { message: /common/, remedy: /tenantId/ }],
  ['the tenant Organizations', { ...app, tenantId: 'Organizations' }, {}, { code: 'tenant_not_single' }],
  ['a tenant with odd characters', { ...app, tenantId: 'a/../b' }, {}, { code: 'tenant_malformed' }],
  [
    'a tenant with a shell command',
    { type: 'azure-cli', tenantId: 'x;reboot' },
    {},
    { code: 'tenant_malformed' },
  ],
  [
    'no tenant and no client',
    { type: 'client-secret', clientSecretFile: '/s' },
    {},
    { message: /tenantId and clientId/ },
  ],
  ['no secret', { type: 'client-secret', tenantId: 't', clientId: 'c' }, {}, { message: /no client secret/ }],
  ['static without a file', { type: 'static' }, {}, { remedy: /tokenFile/ }],
  [
    'two ids',
    { type: 'managed-identity', objectId: 'o', resourceId: 'r' },
    {},
    { message: /resourceId and objectId/ },
  ],
  [
    'a managed identity by object id in a pod with workload identity',
    { type: 'managed-identity', objectId: 'o' },
    { AZURE_CLIENT_ID: 'c', AZURE_TENANT_ID: 't', AZURE_FEDERATED_TOKEN_FILE: '/f' },
    { remedy: /clientId/ },
  ],
]

for (const [title, config, env, pattern] of refused) {
  t.test(`${title} is refused when the credential is made`, async t => {
    t.throws(() => createCredential(config, { ...deps, env }), {
      name: 'TokenFailure',
      kind: 'configuration',
      ...pattern,
    })
  })
}

t.test('the key tells credentials apart that make different tokens, and holds no secret', async t => {
  const key = (config: object, more: Partial<CredentialDeps> = {}) =>
    createCredential({ ...app, ...config }, { ...deps, env: { AZURE_CLIENT_SECRET: 'CANARY' }, ...more }).key
  const keys = [
    key({}),
    key({ tenantId: 'fabrikam.com' }),
    key({ clientId: 'd' }),
    key({ clientSecretFile: '/other' }),
    key({ authorityHost: 'https://login.microsoftonline.us' }),
    key({}, { ca: ['a certificate'] }),
    key({ type: 'workload-identity' }),
    key({ type: 'auto' }),
    key({ type: 'azure-cli' }),
  ]
  t.equal(new Set(keys).size, keys.length)
  t.equal(key({}), keys[0])
  t.notMatch(keys.join(), 'CANARY')
})

t.test('making a credential reads no file and loads no library', async t => {
  const readNothing = { ...deps, readFile: () => t.fail('read') as never }
  for (const type of ['environment', 'workload-identity', 'managed-identity', 'azure-cli', 'auto'] as const) {
    t.equal(createCredential({ type }, readNothing).type, type)
  }
})

t.test('a static token is read again at each attempt, with the expiry in it', async t => {
  const clock = new ManualClock()
  const tokenFile = join(t.testdir({ token: '' }), 'token')
  const credential = createCredential({ type: 'static', tokenFile }, { ...deps, clock })
  const exp = clock.now() / 1000 + 600
  await writeFile(tokenFile, `${fakeJwt({ exp })}\n`)
  t.strictSame(await credential.acquire(SCOPE), { token: fakeJwt({ exp }), expiresAt: exp * 1000 })
  await writeFile(tokenFile, 'opaque\r\n')
  t.strictSame(await credential.acquire(SCOPE), { token: 'opaque', expiresAt: clock.now() + 300_000 })
  await rm(tokenFile)
  t.match(await failureOf(credential.acquire(SCOPE)), { kind: 'configuration', message: /ENOENT/ })
})

t.test(
  'environment says which variables are missing, and that certificates are not supported yet',
  async t => {
    const attempt = (env: CredentialDeps['env']) =>
      failureOf(createCredential({ type: 'environment' }, { ...deps, env }).acquire(SCOPE))
    const app = { AZURE_TENANT_ID: 't', AZURE_CLIENT_ID: 'c' }
    t.match(await attempt({}), {
      kind: 'unavailable',
      message: 'AZURE_TENANT_ID, AZURE_CLIENT_ID are not set',
    })
    t.match(await attempt(app), { kind: 'unavailable', message: 'AZURE_CLIENT_SECRET is not set' })
    t.match(await attempt({ ...app, AZURE_CLIENT_CERTIFICATE_PATH: '/c.pem' }), {
      kind: 'configuration',
      message: /not supported yet/,
    })
    t.match(await attempt({ ...app, AZURE_TENANT_ID: 'common', AZURE_CLIENT_SECRET: 's' }), {
      code: 'tenant_not_single',
    })
  },
)

const standin = await startStandin()
t.teardown(() => standin.close())

const podDeps = (file: string): CredentialDeps => ({
  ...deps,
  ca: [standin.caPem],
  env: {
    AZURE_TENANT_ID: standin.tenantId,
    AZURE_CLIENT_ID: standin.clientId,
    AZURE_FEDERATED_TOKEN_FILE: file,
    AZURE_AUTHORITY_HOST: standin.entra.url,
  },
})
const assertion = (claims: object = {}) =>
  fakeJwt({
    iss: 'https://cluster.example',
    sub: 'system:serviceaccount:jobs:runner',
    aud: 'api://AzureADTokenExchange',
    exp: Math.floor(Date.now() / 1000) + 600,
    ...claims,
  })

t.test('environment takes tenant, client, secret and authority from the environment', async t => {
  const env = { ...podDeps('').env, AZURE_CLIENT_SECRET: standin.clientSecret }
  const credential = createCredential({ type: 'environment' }, { ...podDeps(''), env })
  t.ok((await credential.acquire(SCOPE)).token)
  t.equal(credential.label, `environment, client ${standin.clientId}, tenant ${standin.tenantId}`)
})

t.test("workload identity exchanges the pod's token, reading it again at each attempt", async t => {
  const file = join(t.testdir({ token: assertion() }), 'token')
  const credential = createCredential({ type: 'workload-identity' }, podDeps(file))
  const first = await credential.acquire(SCOPE)
  await writeFile(file, assertion({ exp: 1 }))
  t.match(await failureOf(credential.acquire(SCOPE)), {
    kind: 'configuration',
    aadsts: 700024,
    remedy: /clock/,
  })
  await writeFile(file, '')
  t.match(await failureOf(credential.acquire(SCOPE)), { code: 'file_empty' })
  await rm(file)
  t.match(await failureOf(credential.acquire(SCOPE)), {
    code: 'file_unreadable',
    message: /AZURE_FEDERATED_TOKEN_FILE/,
  })
  await writeFile(file, assertion())
  t.not((await credential.acquire(SCOPE)).token, first.token)
})

t.test('a federated token for another audience or without its subject has a remedy of its own', async t => {
  for (const claims of [{ aud: 'https://other' }, { sub: undefined }]) {
    const file = join(t.testdir({ token: assertion(claims) }), 'token')
    const credential = createCredential({ type: 'workload-identity' }, podDeps(file))
    t.match(await failureOf(credential.acquire(SCOPE)), {
      kind: 'configuration',
      remedy: /federated credential/,
    })
  }
})

t.test('workload identity names the variables that are missing', async t => {
  const credential = createCredential({ type: 'workload-identity', tenantId: 't' }, deps)
  t.match(await failureOf(credential.acquire(SCOPE)), {
    kind: 'unavailable',
    message: 'AZURE_FEDERATED_TOKEN_FILE, AZURE_CLIENT_ID are not set',
  })
})

t.test(
  'in a pod with workload identity a managed identity is the exchange, bounded like any other',
  async t => {
    const file = join(t.testdir({ token: assertion() }), 'token')
    const credential = createCredential({ type: 'managed-identity' }, podDeps(file))
    t.ok((await credential.acquire(SCOPE)).token)
    t.equal(standin.imds.requests.length, 0)
  },
)

t.test('there auto does not try the same thing twice', async t => {
  const file = join(t.testdir({ token: assertion({ exp: 1 }) }), 'token')
  const env = { ...podDeps(file).env, AZURE_TOKEN_CREDENTIALS: 'prod' }
  const failure = await failureOf(
    createCredential({ type: 'auto' }, { ...podDeps(file), env }).acquire(SCOPE),
  )
  t.match(failure, { aadsts: 700024, message: /managed-identity: In a pod .* same as workload-identity/ })
  await writeFile(file, assertion())
})
