// The token goes to the right host over verified TLS, or nowhere.

import t from 'tap'
import { CertificateAuthority, type CertificateKind } from '../../src/standin/certificates.ts'
import { openGateway } from '../helpers/gateway.ts'
import { get } from '../helpers/raw-client.ts'
import { openRecorder } from '../helpers/recorder.ts'

const authority = await CertificateAuthority.create()

for (const kind of ['expired', 'wrong-name', 'self-signed'] as const satisfies CertificateKind[]) {
  t.test(`an upstream with a certificate that is ${kind} sees not one byte of HTTP`, async t => {
    let bytes = 0
    const upstream = await openRecorder(undefined, {
      tls: await authority.issue({ kind }),
      onBytes: chunk => {
        bytes += chunk.length
      },
    })
    t.teardown(() => upstream.close())
    const { port } = await openGateway(t, {
      routes: [{ upstream: upstream.origin }],
      extraCa: [authority.caPem],
    })
    const answer = await get(port, '/')
    t.equal(answer.status, 502)
    t.equal(answer.headers['x-entra-proxy-error'], 'upstream_tls')
    t.match(JSON.parse(answer.body), { remedy: /outbound\.caFile/ })
    t.equal(bytes, 0)
    t.equal(upstream.requests.length, 0)
  })
}

t.test('an upstream whose authority is not known sees nothing either', async t => {
  const upstream = await openRecorder(undefined, { tls: await authority.issue() })
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, { routes: [{ upstream: upstream.origin }] })
  t.equal((await get(port, '/')).headers['x-entra-proxy-error'], 'upstream_tls')
  t.equal(upstream.requests.length, 0)
})

t.test('with its authority trusted the same upstream is served', async t => {
  const upstream = await openRecorder(undefined, { tls: await authority.issue() })
  t.teardown(() => upstream.close())
  const { port } = await openGateway(t, {
    routes: [{ upstream: upstream.origin }],
    extraCa: [authority.caPem],
  })
  t.equal((await get(port, '/')).status, 200)
  t.equal(upstream.requests.length, 1)
})
