// The App Service form of a managed identity: a process of its own, since the library chooses once per process.
import t from 'tap'
import { createCredential } from '../../src/auth/credentials.ts'
import { systemClock } from '../../src/clock.ts'
import { startStandin } from '../../src/standin/standin.ts'
import { failureOf } from '../helpers/fake-credential.ts'

const standin = await startStandin()
t.teardown(() => standin.close())
const { endpoint, header } = standin.imds.appService
Object.assign(process.env, { IDENTITY_ENDPOINT: endpoint, IDENTITY_HEADER: header })
const deps = { env: process.env, readFile: async () => '', clock: systemClock }

t.test('App Service is asked with its own header', async t => {
  const { token } = await createCredential({ type: 'managed-identity' }, deps).acquire(standin.batch.scope)
  t.not(token, '')
  t.match(standin.imds.requests.at(-1)?.url, /^\/msi\/token\?/)
})

t.test('auto takes it without looking for IMDS', async t => {
  const auto = createCredential({ type: 'auto' }, { ...deps, env: { ...process.env, PATH: '' } })
  await auto.acquire('https://auto.example/.default')
  t.match(auto.label, /^managed identity, system-assigned/)
})

t.test('the identity header is in no failure, even when it is echoed', async t => {
  standin.faults.imds.next({ kind: 'status', status: 400, body: `unexpected x-identity-header: ${header}` })
  const failure = await failureOf(
    createCredential({ type: 'managed-identity' }, deps).acquire('https://x.example/.default'),
  )
  const text = [failure.message, failure.stack, failure.debugText(), JSON.stringify(failure)].join('\n')
  t.notMatch(text, header)
})
