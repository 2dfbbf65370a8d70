import { randomUUID } from 'node:crypto'
import {
  createRemoteJWKSet,
  customFetch,
  decodeJwt,
  type JSONWebKeySet,
  jwtVerify,
  SignJWT,
  UnsecuredJWT,
} from 'jose'
import t from 'tap'
import { ManualClock } from '../helpers/manual-clock.ts'
import { openStandin, type Received } from '../helpers/standin-client.ts'

const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/** The error an Entra answer names, in short. */
function errorOf(received: Received): { status: number; error: string; code: number } {
  const { error, error_codes, error_description } = received.json()
  return {
    status: received.status,
    error,
    code: error_description.startsWith(`AADSTS${error_codes[0]}: `) ? error_codes[0] : Number.NaN,
  }
}

t.test('discovery names the endpoints of the tenant, under the host that was asked', async t => {
  const { standin, send } = await openStandin(t)
  const { tenantId, entra } = standin
  for (const origin of [entra.url, entra.url.replace('localhost', '127.0.0.1')]) {
    const answer = await send(`${origin}/${tenantId}/v2.0/.well-known/openid-configuration`)
    t.equal(answer.status, 200)
    t.match(answer.json(), {
      token_endpoint: `${origin}/${tenantId}/oauth2/v2.0/token`,
      authorization_endpoint: `${origin}/${tenantId}/oauth2/v2.0/authorize`,
      device_authorization_endpoint: `${origin}/${tenantId}/oauth2/v2.0/devicecode`,
      issuer: `${origin}/${tenantId}/v2.0`,
      jwks_uri: `${origin}/${tenantId}/discovery/v2.0/keys`,
    })
  }
  const unknown = await send(`${entra.url}/elsewhere/v2.0/.well-known/openid-configuration`)
  t.same(errorOf(unknown), { status: 400, error: 'invalid_request', code: 90002 })
})

t.test('a client secret gets a signed token whose claims and life are as asked', async t => {
  const clock = new ManualClock()
  const { standin, send, askToken } = await openStandin(t, { clock, tokenLifeSeconds: 120 })
  const answer = await askToken()
  t.equal(answer.status, 200)
  t.match(answer.json(), { token_type: 'Bearer', expires_in: 120, ext_expires_in: 120 })

  const keys = await send(`${standin.entra.url}/${standin.tenantId}/discovery/v2.0/keys`)
  const keySet = createRemoteJWKSet(new URL(`${standin.entra.url}/keys`), {
    [customFetch]: async () => Response.json(keys.json() as unknown as JSONWebKeySet),
  })
  const now = clock.now() / 1000
  const { payload } = await jwtVerify(answer.json()['access_token'], keySet, {
    audience: 'https://batch.core.windows.net/',
    issuer: `https://sts.windows.net/${standin.tenantId}/`,
    currentDate: new Date(clock.now()),
  })
  t.match(payload, {
    tid: standin.tenantId,
    appid: standin.clientId,
    azp: standin.clientId,
    idtyp: 'app',
    ver: '1.0',
    iat: now,
    nbf: now,
    exp: now + 120,
  })
  t.equal(payload.sub, payload['oid'])
  t.equal(payload.jti, payload['uti'])
})

t.test('the audience is the scope without /.default, the second slash of Batch included', async t => {
  const { standin, token } = await openStandin(t)
  const audience = async (scope: string) => decodeJwt(await token(scope)).aud
  t.equal(await audience(standin.batch.scope), standin.batch.audience)
  t.equal(await audience('https://batch.core.windows.net/.default'), 'https://batch.core.windows.net')
  t.equal(await audience(standin.mlOnline.scope), 'https://ml.azure.com')
  t.equal(await audience('api://my-app/.default'), 'api://my-app')
})

t.test('two tokens are never the same, not even in one instant', async t => {
  const { standin, token } = await openStandin(t, { clock: new ManualClock() })
  const [one, two] = await Promise.all([token(standin.batch.scope), token(standin.batch.scope)])
  t.not(one, two)
  t.not(decodeJwt(one!).jti, decodeJwt(two!).jti)
})

t.test('what is wrong with a request is said with the number Entra uses for it', async t => {
  const { standin, askToken } = await openStandin(t)
  const { tenantId } = standin
  const cases: [title: string, form: Record<string, string>, tenant: string, expected: object][] = [
    ['secret', { client_secret: 'wrong' }, tenantId, { status: 401, error: 'invalid_client', code: 7000215 }],
    [
      'application',
      { client_id: randomUUID() },
      tenantId,
      { status: 400, error: 'unauthorized_client', code: 700016 },
    ],
    ['tenant', {}, randomUUID(), { status: 400, error: 'invalid_request', code: 90002 }],
    [
      'scope',
      { scope: 'https://ml.azure.com' },
      tenantId,
      { status: 400, error: 'invalid_scope', code: 70011 },
    ],
    [
      'two scopes',
      { scope: 'a/.default b/.default' },
      tenantId,
      { status: 400, error: 'invalid_scope', code: 70011 },
    ],
    [
      'grant',
      { grant_type: 'password' },
      tenantId,
      { status: 400, error: 'unsupported_grant_type', code: 70003 },
    ],
    ['claims', { claims: 'not json' }, tenantId, { status: 400, error: 'invalid_request', code: 9002313 }],
  ]
  for (const [title, form, tenant, expected] of cases)
    t.same(errorOf(await askToken(form, tenant)), expected, title)
  t.equal(standin.entra.counters.tokensIssued, 0)
})

t.test('an assertion is judged by its shape: a certificate’s own one, and a federated one', async t => {
  const { standin, send } = await openStandin(t)
  const endpoint = `${standin.entra.url}/${standin.tenantId}/oauth2/v2.0/token`
  const soon = Math.floor(Date.now() / 1000) + 600
  const ask = (client_assertion: string) => {
    const form = {
      grant_type: 'client_credentials',
      client_id: standin.clientId,
      scope: standin.batch.scope,
      client_assertion_type: ASSERTION_TYPE,
      client_assertion,
    }
    return send(endpoint, { method: 'POST', body: new URLSearchParams(form).toString() })
  }
  const own = (claims: object) =>
    new SignJWT({ iss: standin.clientId, sub: standin.clientId, aud: endpoint, exp: soon, ...claims })
      .setProtectedHeader({ alg: 'HS256', 'x5t#S256': 'thumbprint' })
      .sign(new TextEncoder().encode('any key: signatures are not looked at'))
  const federated = (claims: object) =>
    new UnsecuredJWT({
      iss: 'https://oidc.prod-aks.azure.com/cluster/',
      sub: 'system:serviceaccount:ns:name',
      aud: 'api://AzureADTokenExchange',
      exp: soon,
      ...claims,
    }).encode()

  t.equal((await ask(await own({}))).status, 200, 'certificate')
  t.equal((await ask(`${federated({})}c2ln`)).status, 200, 'federated')
  const refused = async (assertion: string) => errorOf(await ask(assertion)).code
  t.equal(await refused('no.jwt'), 50027)
  t.equal(await refused(await own({ exp: soon - 1200 })), 700024)
  t.equal(await refused(await own({ aud: 'https://elsewhere.test' })), 700023)
  t.equal(await refused(federated({ aud: 'sts.amazonaws.com' })), 700023)
  t.equal(await refused(await own({ sub: 'somebody else' })), 700021)
})

t.test('the claims that were asked for are in the token', async t => {
  const { standin, token } = await openStandin(t)
  const claims = { nbf: { essential: true, value: '1603742800' }, xms_cc: { values: ['cp1'] } }
  const issued = await token(standin.batch.scope, { claims: JSON.stringify({ access_token: claims }) })
  t.same(decodeJwt(issued)['requested_claims'], claims)
})

t.test('token requests are counted by scope, and no secret stays in the log', async t => {
  const { standin, askToken } = await openStandin(t)
  await askToken()
  await askToken({ scope: standin.mlOnline.scope, claims: '{}' })
  await askToken({ client_secret: 'wrong-but-secret' })
  const { counters, requests } = standin.entra
  t.same(counters.tokenRequests, { [standin.batch.scope]: 2, [standin.mlOnline.scope]: 1 })
  t.equal(counters.tokensIssued, 2)
  t.match(requests[1]?.tokenRequest, {
    scope: standin.mlOnline.scope,
    grantType: 'client_credentials',
    clientId: standin.clientId,
    claims: '{}',
  })
  t.notMatch(JSON.stringify(requests), standin.clientSecret)
  t.notMatch(JSON.stringify(requests), 'wrong-but-secret')
})
