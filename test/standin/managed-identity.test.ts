// A file of its own: the identity library keeps its managed identity source and tokens for the whole process.

import { decodeJwt } from 'jose'
import t from 'tap'
import { API_VERSION, openStandin } from '../helpers/standin-client.ts'

t.test('the real ManagedIdentityCredential gets tokens from IMDS that Batch and ML take', async t => {
  const { standin, send } = await openStandin(t)
  process.env['AZURE_POD_IDENTITY_AUTHORITY_HOST'] = standin.imds.url
  const { ManagedIdentityCredential } = await import('@azure/identity')

  const system = new ManagedIdentityCredential()
  const { token } = await system.getToken(standin.batch.scope)
  t.match(decodeJwt(token), { aud: standin.batch.audience, oid: standin.imds.systemAssigned.objectId })
  const batch = await send(`${standin.batch.url}/jobs/job-00001?${API_VERSION}`, {
    headers: { authorization: `Bearer ${token}` },
  })
  t.equal(batch.status, 200)

  const { userAssigned } = standin.imds
  const user = new ManagedIdentityCredential({ resourceId: userAssigned.resourceId })
  const other = await user.getToken(standin.mlOnline.scope)
  t.match(decodeJwt(other.token), { aud: standin.mlOnline.audience, oid: userAssigned.objectId })
  const ml = await send(`${standin.mlOnline.url}/`, { headers: { authorization: `Bearer ${other.token}` } })
  t.equal(ml.status, 200)
  t.match(
    standin.imds.requests[0]?.url,
    /^\/metadata\/identity\/oauth2\/token\/\?/,
    'with the slash, as the library asks',
  )
})
