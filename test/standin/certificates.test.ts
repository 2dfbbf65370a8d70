// Before the library that reads the extensions back.
import 'reflect-metadata'

import { X509Certificate } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { checkServerIdentity, connect, createServer, type PeerCertificate, type Server } from 'node:tls'
import * as x509 from '@peculiar/x509'
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
  const authority = await CertificateAuthority.create(['acct.westeurope.batch.azure.com'])
  const certified = await authority.issue()
  for (const host of ['localhost', '127.0.0.1', '::1', 'acct.westeurope.batch.azure.com']) {
    t.equal(await handshake(certified, authority.caPem, host), 'ok', host)
  }
  t.equal(await handshake(certified, authority.caPem, 'elsewhere.test'), 'ERR_TLS_CERT_ALTNAME_INVALID')
})

t.test('each wrong certificate is refused for its own reason', async t => {
  const authority = await CertificateAuthority.create()
  const refusals = {
    expired: 'CERT_HAS_EXPIRED',
    'wrong-name': 'ERR_TLS_CERT_ALTNAME_INVALID',
    'self-signed': 'DEPTH_ZERO_SELF_SIGNED_CERT',
  } as const
  const { good, ...wrong } = await authority.issueEachKind()
  t.equal(await handshake(good, authority.caPem, 'localhost'), 'ok')
  for (const [kind, code] of Object.entries(refusals)) {
    const certified = wrong[kind as keyof typeof refusals]
    t.equal(await handshake(certified, authority.caPem, 'localhost'), code, kind)
  }
  const stranger = await (await CertificateAuthority.create()).issue()
  t.equal(
    await handshake(stranger, authority.caPem, 'localhost'),
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'another authority',
  )
})

t.test(
  'what is issued is well-formed: subject names, usage, signature, and a serial number of its own',
  async t => {
    const authority = await CertificateAuthority.create()
    const ca = new X509Certificate(authority.caPem)
    const request: CertificateRequest = { names: ['one.test', '10.0.0.1', 'fe80::1:2'] }
    const one = new X509Certificate((await authority.issue(request)).cert)
    t.ok(ca.ca)
    t.notOk(one.ca)
    t.ok(one.verify(ca.publicKey))
    t.ok(one.checkIssued(ca))
    t.equal(one.subjectAltName, 'DNS:one.test, IP Address:10.0.0.1, IP Address:FE80:0:0:0:0:0:1:2')
    t.same(one.keyUsage, ['1.3.6.1.5.5.7.3.1'], 'server authentication')
    t.equal(one.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
    t.not(one.serialNumber, new X509Certificate((await authority.issue(request)).cert).serialNumber)
  },
)

t.test('a strict client finds what RFC 5280 asks of an authority and of what it signs', async t => {
  const authority = await CertificateAuthority.create()
  const ca = new x509.X509Certificate(authority.caPem)
  const { keyCertSign, cRLSign, digitalSignature } = x509.KeyUsageFlags
  const subjectKey = (certificate: x509.X509Certificate) =>
    certificate.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId
  t.match(ca.getExtension(x509.BasicConstraintsExtension), { ca: true, critical: true })
  t.match(ca.getExtension(x509.KeyUsagesExtension), { usages: keyCertSign | cRLSign, critical: true })
  t.match(subjectKey(ca), /^[0-9a-f]{40}$/)

  const { 'self-signed': selfSigned, ...signed } = await authority.issueEachKind()
  for (const [kind, { cert }] of Object.entries(signed)) {
    const certificate = new x509.X509Certificate(cert)
    t.match(
      certificate.getExtension(x509.KeyUsagesExtension),
      { usages: digitalSignature, critical: true },
      kind,
    )
    t.equal(certificate.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId, subjectKey(ca), kind)
    t.not(subjectKey(certificate), subjectKey(ca), kind)
    t.ok(certificate.notBefore < certificate.notAfter, kind)
  }
  const own = new x509.X509Certificate(selfSigned.cert)
  t.equal(own.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId, subjectKey(own))
})
