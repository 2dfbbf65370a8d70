// The real identity library and a script called `az` on a PATH of the test's own.
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import t, { type Test } from 'tap'
import { type CredentialDeps, createCredential } from '../../src/auth/credentials.ts'
import { systemClock } from '../../src/clock.ts'
import { failureOf, fakeJwt } from '../helpers/fake-credential.ts'

const SCOPE = 'https://batch.core.windows.net//.default'
const deps: CredentialDeps = { env: {}, readFile: async () => '', clock: systemClock }

/** Puts a script on a PATH that else has only what a shell script needs. */
async function install(t: Test, name: string, script: string): Promise<string> {
  const dir = t.testdir()
  await mkdir(dir, { recursive: true })
  await writeFile(join(dir, name), `#!/bin/sh\n${script}\n`)
  await chmod(join(dir, name), 0o755)
  process.env['PATH'] = [dir, '/usr/bin', '/bin'].join(delimiter)
  return dir
}

const expiresOn = Math.floor(Date.now() / 1000) + 3600
const answer = (token: string) =>
  JSON.stringify({ accessToken: token, expires_on: expiresOn, tokenType: 'Bearer' })

t.test('a token comes with the expiry that az states', async t => {
  const token = fakeJwt({ aud: 'https://batch.core.windows.net/', upn: 'ann@contoso.com' })
  const dir = await install(t, 'az', `echo "$@" > "$(dirname "$0")/arguments"\necho '${answer(token)}'`)
  const credential = createCredential({ type: 'azure-cli', tenantId: 'contoso.com' }, deps)
  t.equal(credential.label, 'azure-cli, tenant contoso.com')
  t.strictSame(await credential.acquire(SCOPE), { token, expiresAt: expiresOn * 1000 })
  const { readFile } = await import('node:fs/promises')
  t.equal(
    (await readFile(join(dir, 'arguments'), 'utf8')).trim(),
    'account get-access-token --output json --resource https://batch.core.windows.net/ --tenant contoso.com',
  )
})

t.test('warnings on stderr do no harm', async t => {
  await install(t, 'az', `echo 'WARNING: a new version is available' >&2\necho '${answer('abc')}'`)
  t.equal((await createCredential({ type: 'azure-cli' }, deps).acquire(SCOPE)).token, 'abc')
})

t.test('an az that is not signed in is a case for a person, who is told the command', async t => {
  await install(t, 'az', `echo "ERROR: Please run 'az login' to setup account." >&2\nexit 1`)
  t.match(
    await failureOf(createCredential({ type: 'azure-cli', tenantId: 'contoso.com' }, deps).acquire(SCOPE)),
    {
      kind: 'interaction',
      code: 'not_signed_in',
      message: 'The Azure CLI is not signed in',
      remedy: `Run: az login --tenant contoso.com --scope ${SCOPE}`,
    },
  )
})

t.test('an expired sign-in keeps its AADSTS number', async t => {
  await install(t, 'az', `echo 'ERROR: AADSTS70043: The refresh token has expired.' >&2\nexit 1`)
  t.match(await failureOf(createCredential({ type: 'azure-cli' }, deps).acquire(SCOPE)), {
    kind: 'interaction',
    aadsts: 70043,
    remedy: /^Run: az login/,
  })
})

t.test('a missing az is told from one that is not signed in', async t => {
  await install(t, 'something-else', '')
  t.match(await failureOf(createCredential({ type: 'azure-cli' }, deps).acquire(SCOPE)), {
    kind: 'unavailable',
    code: 'not_installed',
    message: 'The Azure CLI is not on the PATH',
    remedy: /aka\.ms\/azure-cli/,
  })
})

t.test('a slow az is ended at the process time limit', async t => {
  await install(t, 'az', 'exec sleep 30')
  const credential = createCredential({ type: 'azure-cli' }, { ...deps, processTimeoutMs: 200 })
  t.match(await failureOf(credential.acquire(SCOPE)), {
    kind: 'transient',
    code: 'TIMEOUT',
    message: 'The Azure CLI gave no token within 0.2 s',
    remedy: /az account get-access-token/,
  })
})

t.test('output that is no answer is a failure without that output', async t => {
  await install(t, 'az', `echo 'CANARY is not JSON'\necho 'CANARY on stderr' >&2`)
  const failure = await failureOf(createCredential({ type: 'azure-cli' }, deps).acquire(SCOPE))
  t.match(failure, { kind: 'transient', code: 'tool_failed' })
  t.notMatch([failure.message, failure.remedy, failure.stack, JSON.stringify(failure)].join(), 'CANARY')
  t.match(failure.debugText(), 'CANARY on stderr', 'which is for the debug log')
})

t.test('claims need a person: az cannot ask for them', async t => {
  await install(t, 'az', `echo '${answer('abc')}'`)
  const failure = await failureOf(
    createCredential({ type: 'azure-cli' }, deps).acquire(SCOPE, { claims: '{"a":1}' }),
  )
  t.match(failure, { kind: 'interaction', remedy: /^Run: az login/ })
})

t.test('azd gives a token, or says what to do', async t => {
  const when = new Date(expiresOn * 1000).toISOString()
  await install(t, 'azd', `echo '${JSON.stringify({ token: 'azd-token', expiresOn: when })}'`)
  const credential = createCredential({ type: 'azure-developer-cli' }, deps)
  t.strictSame(await credential.acquire(SCOPE), { token: 'azd-token', expiresAt: expiresOn * 1000 })
  await install(t, 'azd', 'echo "ERROR: not logged in, run \\`azd auth login\\` to login" >&2; exit 1')
  t.match(await failureOf(credential.acquire(SCOPE)), { kind: 'interaction', remedy: 'Run: azd auth login' })
  await install(t, 'something-else', '')
  t.match(await failureOf(credential.acquire(SCOPE)), { kind: 'unavailable', remedy: /aka\.ms\/azd/ })
})

t.test('PowerShell gives a token, or says what to do', async t => {
  const when = new Date(expiresOn * 1000).toISOString()
  await install(
    t,
    'pwsh',
    `[ "$1" = "/?" ] || echo '${JSON.stringify({ Token: 'ps-token', ExpiresOn: when })}'`,
  )
  const credential = createCredential({ type: 'azure-powershell' }, deps)
  t.strictSame(await credential.acquire(SCOPE), { token: 'ps-token', expiresAt: expiresOn * 1000 })
  await install(t, 'pwsh', '[ "$1" = "/?" ] || { echo "Run Connect-AzAccount to login" >&2; exit 1; }')
  t.match(await failureOf(credential.acquire(SCOPE)), { kind: 'interaction', remedy: /Connect-AzAccount/ })
  await install(t, 'something-else', '')
  t.match(await failureOf(credential.acquire(SCOPE)), { kind: 'unavailable', code: 'not_installed' })
})
