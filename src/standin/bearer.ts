// Whether a resource server takes the token in a request, as strictly as Azure Batch does: exact audience, exact expiry.

import type { Clock } from '../clock.ts'
import type { Exchange } from './exchange.ts'
import type { ResourceFaults } from './faults.ts'
import type { TokenClaims, TokenIssuer } from './tokens.ts'

export type RefusalReason =
  | 'missing'
  | 'shared-key'
  | 'malformed'
  | 'signature'
  | 'tenant'
  | 'audience'
  | 'not-yet-valid'
  | 'expired'
  | 'revoked'
  | 'claims'

export interface Refusal {
  readonly reason: RefusalReason
  /** A sentence for the error body. */
  readonly detail: string
  /** The `WWW-Authenticate` value. */
  readonly challenge: string
}

export interface BearerOptions {
  readonly issuer: TokenIssuer
  readonly clock: Clock
  /** The accepted `aud` values, compared byte by byte. */
  readonly audiences: readonly string[]
  readonly faults: ResourceFaults
  /** Entra's authorization endpoint, for the challenge. */
  readonly authorizationUri: () => string
}

export class BearerCheck {
  readonly #options: BearerOptions

  constructor(options: BearerOptions) {
    this.#options = options
  }

  /** The token's claims when it is accepted; else why not, counted. */
  async check(exchange: Exchange): Promise<TokenClaims | Refusal> {
    const header = exchange.header('authorization') ?? ''
    const token = /^Bearer (\S+)$/i.exec(header)?.[1]
    const claims = token === undefined ? undefined : await this.#options.issuer.read(token)
    const refusal = claims === undefined ? this.#refuseHeader(header, token) : this.#refuseClaims(claims)
    if (claims !== undefined && refusal === undefined) return claims
    exchange.log.refused()
    return refusal!
  }

  /** The answer's challenge for a 401 that was ordered. */
  challenge(error?: 'invalid_token' | 'insufficient_claims', parameters = ''): string {
    const start = `Bearer realm="", authorization_uri="${this.#options.authorizationUri()}"`
    return error === undefined ? start : `${start}, error="${error}"${parameters}`
  }

  #refuseHeader(header: string, token: string | undefined): Refusal {
    if (header === '') {
      return {
        reason: 'missing',
        detail: 'The request has no Authorization header.',
        challenge: this.challenge(),
      }
    }
    if (/^SharedKey(Lite)? /i.test(header)) {
      const scheme = header.slice(0, header.indexOf(' '))
      const detail = `The specified type of authentication ${scheme} is not allowed for this account.`
      return { reason: 'shared-key', detail, challenge: this.challenge() }
    }
    if (token === undefined) {
      return this.#invalid('malformed', 'The Authorization header is not of the form "Bearer <token>".')
    }
    return this.#invalid('signature', 'The access token was not signed by the expected tenant.')
  }

  #refuseClaims(claims: TokenClaims): Refusal | undefined {
    const { issuer, audiences, clock, faults } = this.#options
    const now = clock.now()
    if (claims.iss !== issuer.issuer) {
      const wanted = `It must match the tenant '${issuer.issuer}' of this account.`
      return this.#invalid('tenant', `The access token is from the wrong issuer '${claims.iss}'. ${wanted}`)
    }
    if (!audiences.includes(claims.aud)) {
      // Batch's own sentence: it is the one that users search for.
      const allowed = audiences.map(audience => `'${audience}'`).join(', ')
      const detail =
        `The access token has been obtained from wrong audience or resource '${claims.aud}'. ` +
        `It should exactly match (including forward slash) with one of the allowed audiences ${allowed}`
      return this.#invalid('audience', detail)
    }
    if (claims.nbf * 1000 > now) {
      return this.#invalid('not-yet-valid', `The access token is not valid before ${utc(claims.nbf)}.`)
    }
    if (claims.exp * 1000 <= now) {
      return this.#invalid('expired', `The access token expired at ${utc(claims.exp)}.`)
    }
    if (faults.isRevoked(claims)) return this.#invalid('revoked', 'The access token has been revoked.')
    const missing = faults.missingClaims(claims)
    if (missing === undefined) return undefined
    const encoded = Buffer.from(JSON.stringify({ access_token: missing })).toString('base64')
    return {
      reason: 'claims',
      detail: 'The access token lacks claims that this resource demands.',
      challenge: this.challenge('insufficient_claims', `, claims="${encoded}"`),
    }
  }

  #invalid(reason: RefusalReason, detail: string): Refusal {
    return { reason, detail, challenge: this.challenge('invalid_token') }
  }
}

function utc(seconds: number): string {
  return new Date(seconds * 1000).toISOString()
}
