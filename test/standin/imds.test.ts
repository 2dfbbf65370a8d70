import { decodeJwt } from 'jose'
import t from 'tap'
import { ManualClock } from '../helpers/manual-clock.ts'
import { openStandin } from '../helpers/standin-client.ts'

const PATH = '/metadata/identity/oauth2/token'
const METADATA = { metadata: 'true' }
const BATCH = `api-version=2018-02-01&resource=${encodeURIComponent('https://batch.core.windows.net/')}`

t.test('a token comes with and without the slash before the question mark, its times as strings', async t => {
  const clock = new ManualClock()
  const { standin, send } = await openStandin(t, { clock })
  for (const path of [PATH, `${PATH}/`]) {
    const answer = await send(`${standin.imds.url}${path}?${BATCH}`, { headers: METADATA })
    t.equal(answer.status, 200, path)
    const { access_token, ...rest } = answer.json()
    const now = clock.now() / 1000
    t.same(rest, {
      client_id: standin.imds.systemAssigned.clientId,
      expires_in: '86399',
      expires_on: String(now + 86399),
      ext_expires_in: '86399',
      not_before: String(now),
      resource: 'https://batch.core.windows.net/',
      token_type: 'Bearer',
    })
    t.match(decodeJwt(access_token), {
      aud: 'https://batch.core.windows.net/',
      oid: standin.imds.systemAssigned.objectId,
      xms_mirid: standin.imds.systemAssigned.resourceId,
    })
  }
})

t.test('each way to name the user-assigned identity finds it; an unknown one is refused', async t => {
  const { standin, send } = await openStandin(t)
  const { userAssigned } = standin.imds
  const ids = {
    client_id: userAssigned.clientId,
    object_id: userAssigned.objectId,
    msi_res_id: userAssigned.resourceId,
  }
  for (const [name, value] of Object.entries(ids)) {
    const url = `${standin.imds.url}${PATH}?${BATCH}&${name}=${encodeURIComponent(value)}`
    const answer = await send(url, { headers: METADATA })
    t.match(decodeJwt(answer.json()['access_token']), { oid: userAssigned.objectId }, name)
  }
  const unknown = await send(`${standin.imds.url}${PATH}?${BATCH}&client_id=nobody`, { headers: METADATA })
  t.equal(unknown.status, 400)
  t.same(unknown.json(), { error: 'invalid_request', error_description: 'Identity not found' })
})

t.test('requests that IMDS would refuse are refused', async t => {
  const { standin, send } = await openStandin(t)
  const refused = async (query: string, headers: Record<string, string>) => {
    const answer = await send(`${standin.imds.url}${PATH}${query}`, { headers })
    return [answer.status, answer.json()['error_description']]
  }
  t.same(
    await refused('', {}),
    [400, 'Required metadata header not specified'],
    'the probe of the identity library',
  )
  t.same(await refused(`?${BATCH}`, { metadata: 'false' }), [400, 'Required metadata header not specified'])
  t.same(await refused(`?${BATCH}`, { ...METADATA, 'x-forwarded-for': '10.0.0.1' }), [
    400,
    'Requests with an X-Forwarded-For header are refused',
  ])
  t.same(await refused('?resource=x', METADATA), [400, "Required query variable 'api-version' is missing"])
  t.same(await refused('?api-version=2018-02-01', METADATA), [
    400,
    "Required query variable 'resource' is missing",
  ])
  t.equal((await send(`${standin.imds.url}/elsewhere`)).status, 404)
  t.same(standin.imds.counters.tokenRequests, {})
})

t.test('the App Service form wants its own header, which is not kept', async t => {
  const { standin, send } = await openStandin(t)
  const { endpoint, header } = standin.imds.appService
  const url = `${endpoint}?api-version=2019-08-01&resource=${encodeURIComponent('https://ml.azure.com')}`
  t.equal((await send(url)).status, 401)
  const answer = await send(url, { headers: { 'x-identity-header': header } })
  t.match(decodeJwt(answer.json()['access_token']), { aud: 'https://ml.azure.com' })
  t.notMatch(JSON.stringify(standin.imds.requests), header)
  t.same(standin.imds.counters.tokenRequests, { 'https://ml.azure.com': 1 })
})
