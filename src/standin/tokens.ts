// Signs the stand-in's access tokens (JWT, ES256) and reads them back: only a token with its own signature is read.

import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { compactVerify, exportJWK, type JWK, SignJWT } from 'jose'
import type { Clock } from '../clock.ts'

/** The claims of an access token (Microsoft identity platform, access token claims reference). */
export interface TokenClaims {
  readonly aud: string
  readonly iss: string
  readonly tid: string
  readonly appid: string
  readonly azp: string
  readonly oid: string
  readonly sub: string
  readonly idtyp: 'app'
  /** Seconds since the epoch, like `nbf` and `exp`. */
  readonly iat: number
  readonly nbf: number
  readonly exp: number
  readonly ver: '1.0'
  readonly jti: string
  readonly uti: string
  /** Position among all tokens issued, from 1. Not a claim of Entra's: it tells older tokens from newer ones. */
  readonly seq: number
  /** Managed identities: the resource id of what the identity belongs to. */
  readonly xms_mirid?: string
  /** The `access_token` member of the request's `claims` parameter. Not a claim of Entra's either. */
  readonly requested_claims?: Readonly<Record<string, unknown>>
}

/** Whom a token is for. */
export interface Subject {
  readonly clientId: string
  readonly objectId: string
  /** Managed identities only. */
  readonly resourceId?: string
}

export interface IssueRequest {
  readonly audience: string
  readonly subject: Subject
  readonly lifeSeconds: number
  readonly requestedClaims?: Readonly<Record<string, unknown>>
}

export interface IssuedToken {
  readonly token: string
  readonly claims: TokenClaims
}

const READ_CACHE_SIZE = 1000

export class TokenIssuer {
  readonly tenantId: string
  /** The `iss` of every token. */
  readonly issuer: string
  readonly #clock: Clock
  readonly #keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  readonly #keyId = randomUUID()
  /** Signature checks already made; a token is sent with thousands of requests. */
  readonly #read = new Map<string, TokenClaims | undefined>()
  #issued = 0

  constructor(tenantId: string, clock: Clock) {
    this.tenantId = tenantId
    this.issuer = `https://sts.windows.net/${tenantId}/`
    this.#clock = clock
  }

  /** Tokens issued so far: the `seq` of the latest one. */
  get issued(): number {
    return this.#issued
  }

  async issue(request: IssueRequest): Promise<IssuedToken> {
    const { subject, requestedClaims } = request
    const seconds = this.#clock.now() / 1000
    this.#issued += 1
    const id = randomUUID()
    const claims: TokenClaims = {
      aud: request.audience,
      iss: this.issuer,
      iat: Math.floor(seconds),
      nbf: Math.floor(seconds),
      // Rounded up: a token must not end before its answer's expires_in says.
      exp: Math.ceil(seconds + request.lifeSeconds),
      appid: subject.clientId,
      azp: subject.clientId,
      idtyp: 'app',
      oid: subject.objectId,
      sub: subject.objectId,
      tid: this.tenantId,
      jti: id,
      uti: id,
      ver: '1.0',
      seq: this.#issued,
      ...(subject.resourceId === undefined ? {} : { xms_mirid: subject.resourceId }),
      ...(requestedClaims === undefined ? {} : { requested_claims: requestedClaims }),
    }
    const token = await new SignJWT({ ...claims })
      .setProtectedHeader({ typ: 'JWT', alg: 'ES256', kid: this.#keyId })
      .sign(this.#keys.privateKey)
    return { token, claims }
  }

  /** The claims of a token signed here, whatever they say; undefined for any other text. */
  async read(token: string): Promise<TokenClaims | undefined> {
    if (this.#read.has(token)) return this.#read.get(token)
    const claims = await this.#verify(token)
    if (this.#read.size >= READ_CACHE_SIZE) this.#read.clear()
    this.#read.set(token, claims)
    return claims
  }

  /** The public keys, as the `jwks_uri` serves them (RFC 7517). */
  async publicKeys(): Promise<{ readonly keys: readonly JWK[] }> {
    const key = await exportJWK(this.#keys.publicKey)
    return { keys: [{ ...key, kid: this.#keyId, use: 'sig', alg: 'ES256' }] }
  }

  async #verify(token: string): Promise<TokenClaims | undefined> {
    try {
      const { payload } = await compactVerify(token, this.#keys.publicKey, { algorithms: ['ES256'] })
      return JSON.parse(new TextDecoder().decode(payload)) as TokenClaims
    } catch {
      return undefined
    }
  }
}

/** The payload of a JWT, its signature not looked at; undefined when it is none. */
export function decodePayload(token: string): Record<string, unknown> | undefined {
  const parts = token.split('.')
  if (parts.length !== 3) return undefined
  try {
    const payload: unknown = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString())
    return typeof payload === 'object' && payload !== null ? (payload as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
