// Certificates made in memory at start: a test authority, and server certificates from it, right or wrong.
// They are written as DER by hand (RFC 5280), because a certificate library costs more to load than all of this.

import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'

/** What is wrong with a certificate: `self-signed` is right but not from the authority. */
export type CertificateKind = 'good' | 'expired' | 'wrong-name' | 'self-signed'

/** A certificate and its private key, PEM; what `tls.createServer` takes. */
export interface CertifiedKey {
  readonly cert: string
  readonly key: string
}

export interface CertificateRequest {
  /** Default `good`. */
  readonly kind?: CertificateKind
  /** DNS names and IP addresses; default those of the authority. */
  readonly names?: readonly string[]
}

const DAY = 24 * 60 * 60 * 1000
const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '::1']

/** An authority of its own, ECDSA P-256 throughout. Valid from yesterday by the real clock, as TLS libraries look at that one. */
export class CertificateAuthority {
  /** The authority's own certificate: what clients must trust. */
  readonly caPem: string
  readonly #keys = generateKeys()
  readonly #names: readonly string[]

  /** `names` are in every certificate besides localhost, 127.0.0.1 and ::1. */
  constructor(names: readonly string[] = []) {
    this.#names = [...LOOPBACK_NAMES, ...names]
    this.caPem = toPem(
      certificate({
        subject: AUTHORITY_NAME,
        subjectKey: this.#keys.publicKey,
        issuer: AUTHORITY_NAME,
        issuerKeys: this.#keys,
        ...validity(365),
        extensions: [
          extension(OID.basicConstraints, sequence(boolean(true)), true),
          extension(OID.keyUsage, bits(0x06, 1), true),
          extension(OID.subjectKeyIdentifier, octets(keyIdentifier(this.#keys.publicKey))),
        ],
      }),
    )
  }

  /** Makes a server certificate with a key of its own. */
  issue(request: CertificateRequest = {}): CertifiedKey {
    const { kind = 'good' } = request
    const keys = generateKeys()
    const names = kind === 'wrong-name' ? ['wrong.invalid'] : (request.names ?? this.#names)
    const subject = commonName(names[0] ?? 'nobody')
    const issuerKeys = kind === 'self-signed' ? keys : this.#keys
    const der = certificate({
      subject,
      subjectKey: keys.publicKey,
      issuer: kind === 'self-signed' ? subject : AUTHORITY_NAME,
      issuerKeys,
      ...validity(kind === 'expired' ? -1 : 90),
      extensions: [
        extension(OID.subjectAltName, sequence(...names.map(alternativeName))),
        extension(OID.keyUsage, bits(0x80, 7), true),
        extension(OID.extendedKeyUsage, sequence(OID.serverAuth)),
        extension(OID.subjectKeyIdentifier, octets(keyIdentifier(keys.publicKey))),
        extension(OID.authorityKeyIdentifier, sequence(tagged(0x80, keyIdentifier(issuerKeys.publicKey)))),
      ],
    })
    return { cert: toPem(der), key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() }
  }
}

interface Keys {
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

function generateKeys(): Keys {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' })
}

/** Ends `days` from now; always begins before it ends. */
function validity(days: number): { readonly notBefore: Date; readonly notAfter: Date } {
  const notAfter = Date.now() + days * DAY
  return { notBefore: new Date(Math.min(Date.now(), notAfter) - DAY), notAfter: new Date(notAfter) }
}

interface CertificateFields {
  readonly subject: Buffer
  readonly subjectKey: KeyObject
  readonly issuer: Buffer
  readonly issuerKeys: Keys
  readonly notBefore: Date
  readonly notAfter: Date
  readonly extensions: readonly Buffer[]
}

/** Certificate and TBSCertificate, RFC 5280 section 4.1. */
function certificate(fields: CertificateFields): Buffer {
  const serial = randomBytes(16)
  serial[0] = (serial[0]! & 0x3f) | 0x40 // positive, and never shortened
  const body = sequence(
    tagged(0xa0, integer(Buffer.of(2))),
    integer(serial),
    SIGNATURE_ALGORITHM,
    fields.issuer,
    sequence(time(fields.notBefore), time(fields.notAfter)),
    fields.subject,
    publicKeyInfo(fields.subjectKey),
    tagged(0xa3, sequence(...fields.extensions)),
  )
  const signature = sign('sha256', body, fields.issuerKeys.privateKey)
  return sequence(body, SIGNATURE_ALGORITHM, tagged(0x03, Buffer.of(0), signature))
}

function publicKeyInfo(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' })
}

function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha1').update(publicKeyInfo(key)).digest()
}

function toPem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

function commonName(name: string): Buffer {
  return sequence(tagged(0x31, sequence(OID.commonName, tagged(0x0c, Buffer.from(name)))))
}

/** GeneralName, RFC 5280 section 4.2.1.6: an address as its bytes, anything else as a DNS name. */
function alternativeName(name: string): Buffer {
  if (isIPv4(name)) return tagged(0x87, Buffer.from(name.split('.').map(Number)))
  if (isIPv6(name)) return tagged(0x87, ipv6Bytes(name))
  return tagged(0x82, Buffer.from(name))
}

function ipv6Bytes(address: string): Buffer {
  const [head = '', tail] = address.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const missing = 8 - groups(head).length - groups(tail ?? '').length
  const filler = tail === undefined ? [] : Array<string>(missing).fill('0')
  const all = [...groups(head), ...filler, ...groups(tail ?? '')]
  return Buffer.from(all.map(group => group.padStart(4, '0')).join(''), 'hex')
}

function extension(id: Buffer, value: Buffer, critical = false): Buffer {
  return sequence(id, ...(critical ? [boolean(true)] : []), octets(value))
}

// DER (X.690): a tag, a length, the content.

function tagged(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  return Buffer.concat([Buffer.of(tag), length(content.length), content])
}

function length(size: number): Buffer {
  if (size < 0x80) return Buffer.of(size)
  return size < 0x100 ? Buffer.of(0x81, size) : Buffer.of(0x82, size >> 8, size & 0xff)
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tagged(0x30, ...parts)
}

function integer(value: Buffer): Buffer {
  return tagged(0x02, value)
}

function boolean(value: boolean): Buffer {
  return tagged(0x01, Buffer.of(value ? 0xff : 0))
}

function octets(value: Buffer): Buffer {
  return tagged(0x04, value)
}

function bits(value: number, unused: number): Buffer {
  return tagged(0x03, Buffer.of(unused, value))
}

/** UTCTime; it can name the years up to 2049. */
function time(date: Date): Buffer {
  return tagged(0x17, Buffer.from(`${date.toISOString().slice(2, 19).replace(/[-:T]/g, '')}Z`))
}

function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  return tagged(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]))
}

function base128(value: number): number[] {
  const digits = [value & 0x7f]
  for (let left = value >> 7; left > 0; left >>= 7) digits.unshift((left & 0x7f) | 0x80)
  return digits
}

const OID = {
  commonName: objectId('2.5.4.3'),
  subjectKeyIdentifier: objectId('2.5.29.14'),
  keyUsage: objectId('2.5.29.15'),
  subjectAltName: objectId('2.5.29.17'),
  basicConstraints: objectId('2.5.29.19'),
  authorityKeyIdentifier: objectId('2.5.29.35'),
  extendedKeyUsage: objectId('2.5.29.37'),
  serverAuth: objectId('1.3.6.1.5.5.7.3.1'),
} as const

/** ecdsa-with-SHA256, RFC 5758. */
const SIGNATURE_ALGORITHM = sequence(objectId('1.2.840.10045.4.3.2'))

const AUTHORITY_NAME = commonName('entra-proxy stand-in CA')
