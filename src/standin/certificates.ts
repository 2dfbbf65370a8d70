// Certificates made in memory at start: a test authority, and server certificates from it, right or wrong.
// The library takes a while to load, so this module is itself loaded only by a stand-in that starts.

// The library's decorators look for it while they load: first.
import 'reflect-metadata'

import { KeyObject, webcrypto } from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'

/** What is wrong with a certificate: `self-signed` is right but not from the authority. */
export type CertificateKind = 'good' | 'expired' | 'wrong-name' | 'self-signed'

/** A certificate and its private key, PEM; what `tls.createServer` takes. */
export interface CertifiedKey {
  readonly cert: string
  readonly key: string
}

/** One of each kind, for a server that is to show now this one, now that. */
export type ServerCertificates = Readonly<Record<CertificateKind, CertifiedKey>>

export interface CertificateRequest {
  /** Default `good`. */
  readonly kind?: CertificateKind
  /** DNS names and IP addresses; default those of the authority. */
  readonly names?: readonly string[]
}

const DAY = 24 * 60 * 60 * 1000
const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '::1']
const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' }
const AUTHORITY_NAME = commonName('entra-proxy stand-in CA')

type Keys = webcrypto.CryptoKeyPair

/** An authority of its own, ECDSA P-256 throughout. Valid from yesterday by the real clock, as TLS libraries look at that one. */
export class CertificateAuthority {
  /** The authority's own certificate: what clients must trust. */
  readonly caPem: string
  readonly #keys: Keys
  readonly #names: readonly string[]

  private constructor(keys: Keys, caPem: string, names: readonly string[]) {
    this.#keys = keys
    this.caPem = caPem
    this.#names = names
  }

  /** `names` are in every certificate besides localhost, 127.0.0.1 and ::1. */
  static async create(names: readonly string[] = []): Promise<CertificateAuthority> {
    const keys = await generateKeys()
    const { keyCertSign, cRLSign } = x509.KeyUsageFlags
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name: AUTHORITY_NAME,
      keys,
      ...validity(365),
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(keyCertSign | cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    })
    return new CertificateAuthority(keys, toPem(certificate), [...LOOPBACK_NAMES, ...names])
  }

  /** Makes a server certificate with a key of its own. */
  async issue(request: CertificateRequest = {}): Promise<CertifiedKey> {
    const { kind = 'good' } = request
    const keys = await generateKeys()
    const names = kind === 'wrong-name' ? ['wrong.invalid'] : (request.names ?? this.#names)
    const subject = commonName(names[0] ?? 'nobody')
    const signer = kind === 'self-signed' ? keys : this.#keys
    const certificate = await x509.X509CertificateGenerator.create({
      subject,
      publicKey: keys.publicKey,
      issuer: kind === 'self-signed' ? subject : AUTHORITY_NAME,
      signingKey: signer.privateKey,
      ...validity(kind === 'expired' ? -1 : 90),
      extensions: [
        new x509.SubjectAlternativeNameExtension(names.map(alternativeName)),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
        await x509.AuthorityKeyIdentifierExtension.create(signer.publicKey),
      ],
    })
    const key = KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString()
    return { cert: toPem(certificate), key }
  }

  /** One certificate of each kind, for the authority's names. */
  async issueEachKind(): Promise<ServerCertificates> {
    const [good, expired, wrongName, selfSigned] = await Promise.all([
      this.issue(),
      this.issue({ kind: 'expired' }),
      this.issue({ kind: 'wrong-name' }),
      this.issue({ kind: 'self-signed' }),
    ])
    return { good, expired, 'wrong-name': wrongName, 'self-signed': selfSigned }
  }
}

function generateKeys(): Promise<Keys> {
  return webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify'])
}

/** Ends `days` from now; always begins before it ends. */
function validity(days: number): { readonly notBefore: Date; readonly notAfter: Date } {
  const notAfter = Date.now() + days * DAY
  return { notBefore: new Date(Math.min(Date.now(), notAfter) - DAY), notAfter: new Date(notAfter) }
}

function commonName(name: string): x509.JsonName {
  return [{ CN: [name] }]
}

function alternativeName(name: string): x509.JsonGeneralName {
  return { type: isIP(name) === 0 ? 'dns' : 'ip', value: name }
}

function toPem(certificate: x509.X509Certificate): string {
  return `${certificate.toString('pem')}\n`
}
