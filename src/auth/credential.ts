// What the token cache knows of a credential: something that can be asked for a token and named to people.

import type { CredentialType } from '../config/config.ts'

export interface AcquiredToken {
  readonly token: string
  /** Epoch milliseconds. Absent when the answer had no lifetime; a JWT's own `exp` then counts. */
  readonly expiresAt?: number
  /** Epoch milliseconds: the issuer's hint to ask again from here on. */
  readonly refreshAfter?: number
}

export interface AcquireOptions {
  /** The decoded claims of an `insufficient_claims` challenge: the text of a JSON object. */
  readonly claims?: string
  /** The upstream refused the current token: do not answer from a cache where that can be avoided. */
  readonly force?: boolean
}

export interface Credential {
  /** Equal for credentials that make the same tokens; covers tenant and authority, holds no secret. */
  readonly key: string
  readonly type: CredentialType
  /** For people, such as `managed identity, client 1234…`. `auto` names the winner once it has one. */
  readonly label: string
  /** Makes one attempt, bounded in time. Rejects with a TokenFailure. */
  acquire(scope: string, options?: AcquireOptions): Promise<AcquiredToken>
  /** Further lines for people: with `auto`, why each other candidate lost. */
  describe?(): readonly string[]
}
