import { X509Certificate } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { checkServerIdentity, connect, createServer, type PeerCertificate, type Server } from 'node:tls'
import t from 'tap'
import {
  CertificateAuthority,
  type CertificateRequest,
  type CertifiedKey,
} from '../../src/standin/certificates.ts'

/** The code of the error a client of `host` gets from a server with this certificate; 'ok' when there is none. */
async function handshake(certified: CertifiedKey, ca: string, host: string): Promise<string> {
  const server: Server = createServer({ ...certified }, socket => socket.end())
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const outcome = await new Promise<string>(resolve => {
    const options = {
      port,
      host: '127.0.0.1',
      ca,
      checkServerIdentity: (_: string, peer: PeerCertificate) => checkServerIdentity(host, peer),
    }
    const socket = connect(options, () => resolve('ok'))
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.resume()
  })
  await new Promise(resolve => server.close(resolve))
  return outcome
}

t.test('a good certificate holds for localhost, both loopback addresses and the names given', async t => {
  const authority = new CertificateAuthority(['acct.westeurope.batch.azure.com'])
  const certified = authority.issue()
  for (const host of ['localhost', '127.0.0.1', '::1', 'acct.westeurope.batch.azure.com']) {
    t.equal(await handshake(certified, authority.caPem, host), 'ok', host)
  }
  t.equal(await handshake(certified, authority.caPem, 'elsewhere.test'), 'ERR_TLS_CERT_ALTNAME_INVALID')
})

t.test('each wrong certificate is refused for its own reason', async t => {
  const authority = new CertificateAuthority()
  const refusals = {
    expired: 'CERT_HAS_EXPIRED',
    'wrong-name': 'ERR_TLS_CERT_ALTNAME_INVALID',
    'self-signed': 'DEPTH_ZERO_SELF_SIGNED_CERT',
  } as const
  for (const [kind, code] of Object.entries(refusals)) {
    const certified = authority.issue({ kind: kind as keyof typeof refusals })
    t.equal(await handshake(certified, authority.caPem, 'localhost'), code, kind)
  }
  const stranger = new CertificateAuthority().issue()
  t.equal(
    await handshake(stranger, authority.caPem, 'localhost'),
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'another authority',
  )
})

t.test(
  'what is issued is well-formed: subject names, usage, signature, and a serial number of its own',
  async t => {
    const authority = new CertificateAuthority()
    const ca = new X509Certificate(authority.caPem)
    const request: CertificateRequest = { names: ['one.test', '10.0.0.1', 'fe80::1:2'] }
    const one = new X509Certificate(authority.issue(request).cert)
    t.ok(ca.ca)
    t.notOk(one.ca)
    t.ok(one.verify(ca.publicKey))
    t.ok(one.checkIssued(ca))
    t.equal(one.subjectAltName, 'DNS:one.test, IP Address:10.0.0.1, IP Address:FE80:0:0:0:0:0:1:2')
    t.same(one.keyUsage, ['1.3.6.1.5.5.7.3.1'], 'server authentication')
    t.equal(one.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
    t.not(one.serialNumber, new X509Certificate(authority.issue(request).cert).serialNumber)
  },
)
