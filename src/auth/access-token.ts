// What an answer must be to go on the wire as a token, and what a JWT says of its bearer. The gateway does
// not verify signatures: the upstream does, and many tokens are opaque to everyone else.

import type { AcquiredToken } from './credential.ts'
import { TokenFailure } from './failures.ts'

/** Who a token speaks for, as far as it is a JWT that says so. Names are those of the claims. */
export interface Subject {
  readonly upn?: string
  readonly preferred_username?: string
  readonly appid?: string
  readonly oid?: string
  readonly tid?: string
  /** The ARM id of the resource a managed identity belongs to. */
  readonly xms_mirid?: string
}

export interface CheckedAnswer {
  readonly token: string
  /** Epoch milliseconds, in the future. */
  readonly expiresAt: number
  readonly refreshAfter?: number
  readonly subject: Subject
  /** What the token says it is for, if it is a JWT. */
  readonly audience: readonly string[]
}

export interface AnswerExpectation {
  readonly scope: string
  /** The only accepted `aud`; absent where any will do. */
  readonly audience?: string | undefined
  /** Epoch milliseconds. */
  readonly now: number
}

/** Far above any real token (about 10 kB), below what servers take as headers. */
const MAX_TOKEN_LENGTH = 48 * 1024

/** Throws a TokenFailure for an answer that must not be used. */
export function checkAnswer(
  answer: AcquiredToken | null | undefined,
  expected: AnswerExpectation,
): CheckedAnswer {
  const token: unknown = answer?.token
  if (typeof token !== 'string' || token === '') {
    throw refused(
      'token_empty',
      'The answer holds no token',
      'Check what answers at the token endpoint, and HTTPS_PROXY.',
    )
  }
  if (/[^\x21-\x7e]/.test(token) || token.length > MAX_TOKEN_LENGTH) {
    throw refused(
      'token_malformed',
      'The answer holds something that cannot be sent as a header: line breaks, blanks, non-ASCII characters or too much of it',
      'Check what answers at the token endpoint; for a token file, that it holds the token and nothing else.',
    )
  }
  const claims = decodeClaims(token)
  const audience = audienceOf(claims)
  if (expected.audience !== undefined && claims !== undefined && !audience.includes(expected.audience)) {
    throw refused(
      'audience_mismatch',
      `The token is for ${printable(audience.join(', ')) || 'no audience'}, not for ${expected.audience}`,
      `Check the route's scope ${expected.scope}: it must ask for that audience (slashes count).`,
    )
  }
  return {
    token,
    expiresAt: expiryOf(answer!, claims, expected.now),
    ...(Number.isFinite(answer!.refreshAfter) ? { refreshAfter: answer!.refreshAfter! } : {}),
    subject: subjectOf(claims),
    audience,
  }
}

/** For an answer without a lifetime the library gives the present moment, rounded to a second. */
const ROUNDING_MS = 1000

function expiryOf(answer: AcquiredToken, claims: Claims | undefined, now: number): number {
  const stated = isMoment(answer.expiresAt) ? answer.expiresAt : undefined
  if (stated !== undefined && stated > now + ROUNDING_MS) return stated
  const own = jwtExpiry(claims)
  if (own !== undefined && own > now) return own
  if (own === undefined && (stated === undefined || now - stated < ROUNDING_MS)) {
    throw refused(
      'token_without_lifetime',
      'The answer does not say how long the token lives',
      'Check what answers at the token endpoint: Entra and IMDS always say it.',
    )
  }
  throw refused(
    'token_expired',
    'The token had already expired when it came',
    'Check the clock of this machine (NTP); for a token file, write a fresh token to it.',
  )
}

function isMoment(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function refused(code: string, detail: string, remedy: string): TokenFailure {
  return new TokenFailure({
    kind: code === 'audience_mismatch' ? 'configuration' : 'transient',
    code,
    detail,
    remedy,
  })
}

type Claims = Readonly<Record<string, unknown>>

/** The payload of a JWT, or undefined for any other token. */
function decodeClaims(token: string): Claims | undefined {
  const parts = token.split('.')
  if (parts.length !== 3) return undefined
  try {
    const payload: unknown = JSON.parse(Buffer.from(parts[1]!, 'base64url').toString('utf8'))
    return typeof payload === 'object' && payload !== null && !Array.isArray(payload)
      ? (payload as Claims)
      : undefined
  } catch {
    return undefined
  }
}

/** Epoch milliseconds of a JWT's `exp`, or undefined. */
function jwtExpiry(claims: Claims | undefined): number | undefined {
  const exp = claims?.['exp']
  return isMoment(exp) ? exp * 1000 : undefined
}

/** When a token says it ends, epoch milliseconds; undefined for one that is no JWT. */
export function tokenExpiry(token: string): number | undefined {
  return jwtExpiry(decodeClaims(token))
}

function audienceOf(claims: Claims | undefined): readonly string[] {
  const aud = claims?.['aud']
  if (typeof aud === 'string') return [aud]
  return Array.isArray(aud) ? aud.filter(item => typeof item === 'string') : []
}

/** Whether `audience` is what `scope` asks for, a slash at the end aside. */
export function audienceFitsScope(audience: readonly string[], scope: string): boolean {
  const resource = bare(scope.replace(/\/\.default$/, ''))
  return audience.some(item => bare(item) === resource)
}

function bare(resource: string): string {
  return resource.replace(/\/+$/, '').toLowerCase()
}

function subjectOf(claims: Claims | undefined): Subject {
  if (claims === undefined) return {}
  const subject: Record<string, string> = {}
  for (const name of ['upn', 'preferred_username', 'appid', 'oid', 'tid', 'xms_mirid'] as const) {
    // Tokens of version 2 call the client `azp`.
    const value = claims[name] ?? (name === 'appid' ? claims['azp'] : undefined)
    if (typeof value === 'string' && value !== '') subject[name] = printable(value)
  }
  return subject
}

/** The shortest name people know the bearer by, or undefined for a token that names none. */
export function subjectName(subject: Subject): string | undefined {
  const resource = subject.xms_mirid?.split('/').at(-1)
  return subject.upn ?? subject.preferred_username ?? resource ?? subject.appid ?? subject.oid
}

/** Claims reach logs and terminals, so they are cut and cleaned of control characters. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e\u00a0-\uffff]/g, '?').slice(0, 512)
}
