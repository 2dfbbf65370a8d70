import { ClientAssertionCredential, ClientSecretCredential } from '@azure/identity'
import { UnsecuredJWT } from 'jose'
import t from 'tap'
import { API_VERSION, openStandin } from '../helpers/standin-client.ts'

t.test('the real ClientSecretCredential gets tokens that Batch and ML take', async t => {
  const { standin, send } = await openStandin(t)
  const credential = new ClientSecretCredential(standin.tenantId, standin.clientId, standin.clientSecret, {
    authorityHost: standin.entra.url,
    disableInstanceDiscovery: true,
    tlsOptions: { ca: standin.caPem },
  })
  const paths = { batch: `/jobs/job-00001?${API_VERSION}`, mlOnline: '/', mlBatch: '/~standin/echo' } as const
  for (const [name, path] of Object.entries(paths)) {
    const server = standin[name as keyof typeof paths]
    const before = Date.now()
    const { token, expiresOnTimestamp } = await credential.getToken(server.scope)
    t.ok(expiresOnTimestamp >= before + 3_598_000 && expiresOnTimestamp <= Date.now() + 3_600_000)
    const answer = await send(`${server.url}${path}`, { headers: { authorization: `Bearer ${token}` } })
    t.equal(answer.status, 200, name)
  }
  t.same(standin.entra.counters.tokenRequests, { [standin.batch.scope]: 1, [standin.mlOnline.scope]: 1 })
})

t.test('a token for the scope with one slash is refused by Batch, with the reason users know', async t => {
  const { standin, send } = await openStandin(t)
  const credential = new ClientSecretCredential(standin.tenantId, standin.clientId, standin.clientSecret, {
    authorityHost: standin.entra.url,
    disableInstanceDiscovery: true,
    tlsOptions: { ca: standin.caPem },
  })
  const { token } = await credential.getToken('https://batch.core.windows.net/.default')
  const headers = { authorization: `Bearer ${token}` }
  const answer = await send(`${standin.batch.url}/jobs?${API_VERSION}`, { headers })
  t.equal(answer.status, 401)
  t.equal(
    answer.json()['values'][0].value,
    "The access token has been obtained from wrong audience or resource 'https://batch.core.windows.net'. It should " +
      "exactly match (including forward slash) with one of the allowed audiences 'https://batch.core.windows.net/'",
  )
})

t.test('the real library shows a wrong secret by its AADSTS number, and passes claims on', async t => {
  const { standin, send } = await openStandin(t)
  const options = {
    authorityHost: standin.entra.url,
    disableInstanceDiscovery: true,
    tlsOptions: { ca: standin.caPem },
  }
  const wrong = new ClientSecretCredential(standin.tenantId, standin.clientId, 'wrong', options)
  await t.rejects(wrong.getToken(standin.batch.scope), { message: /AADSTS7000215: Invalid client secret/ })

  standin.faults.batch.requireClaims({ nbf: { essential: true, value: '1' } })
  const right = new ClientSecretCredential(standin.tenantId, standin.clientId, standin.clientSecret, options)
  const claims = JSON.stringify({ access_token: { nbf: { essential: true, value: '1' } } })
  for (const [status, request] of [
    [401, {}],
    [200, { claims }],
  ] as const) {
    const { token } = await right.getToken(standin.batch.scope, request)
    const headers = { authorization: `Bearer ${token}` }
    t.equal((await send(`${standin.batch.url}/~standin/echo`, { headers })).status, status)
  }
})

t.test('the real ClientAssertionCredential is served too', async t => {
  const { standin, send } = await openStandin(t)
  const assertion = new UnsecuredJWT({
    iss: 'https://oidc.example.test/',
    sub: 'system:serviceaccount:ns:name',
    aud: 'api://AzureADTokenExchange',
    exp: Math.floor(Date.now() / 1000) + 600,
  }).encode()
  const credential = new ClientAssertionCredential(
    standin.tenantId,
    standin.clientId,
    async () => `${assertion}c2ln`,
    {
      authorityHost: standin.entra.url,
      disableInstanceDiscovery: true,
      tlsOptions: { ca: standin.caPem },
    },
  )
  const { token } = await credential.getToken(standin.batch.scope)
  const headers = { authorization: `Bearer ${token}` }
  t.equal((await send(`${standin.batch.url}/~standin/echo`, { headers })).status, 200)
})
