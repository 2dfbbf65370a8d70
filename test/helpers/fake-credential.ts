// A credential that does what the test tells it to, and tokens that look like Entra's.

import type { AcquiredToken, AcquireOptions, Credential } from '../../src/auth/credential.ts'
import { TokenFailure } from '../../src/auth/failures.ts'
import type { CredentialType } from '../../src/config/config.ts'

/** An unsigned JWT: nothing in the gateway checks signatures. */
export function fakeJwt(claims: Record<string, unknown>): string {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${encode({ alg: 'none', typ: 'JWT' })}.${encode(claims)}.c2lnbmF0dXJl`
}

export interface AcquireCall extends AcquireOptions {
  readonly scope: string
}

export type Answer = AcquiredToken | Error | (() => AcquiredToken | Promise<AcquiredToken>)

export class FakeCredential implements Credential {
  readonly key: string
  readonly type: CredentialType
  readonly label: string
  readonly calls: AcquireCall[] = []
  /** What to do when nothing is queued. */
  otherwise: Answer
  readonly #queue: Answer[] = []

  constructor(otherwise: Answer, { type = 'client-secret' as CredentialType, key = 'fake' } = {}) {
    this.otherwise = otherwise
    this.type = type
    this.key = key
    this.label = `${type}, fake`
  }

  /** The next acquisitions get these, one each. */
  next(...answers: Answer[]): void {
    this.#queue.push(...answers)
  }

  async acquire(scope: string, options: AcquireOptions = {}): Promise<AcquiredToken> {
    this.calls.push({ scope, ...options })
    const answer = this.#queue.shift() ?? this.otherwise
    if (answer instanceof Error) throw answer
    return typeof answer === 'function' ? answer() : answer
  }
}

/** The TokenFailure that `attempt` ends in; anything else is an error of the test. */
export async function failureOf(attempt: Promise<unknown>): Promise<TokenFailure> {
  try {
    await attempt
  } catch (error) {
    if (error instanceof TokenFailure) return error
    throw error
  }
  throw new Error('a token came where a failure was expected')
}
