// The life of one token: when it may be used, when it is renewed, what happens when that fails. Every rule
// about time is here; what an answer must look like is in access-token.ts, who is asked in credentials.ts.

import type { Clock } from '../clock.ts'
import type { CredentialType } from '../config/config.ts'
import { GatewayError } from '../errors.ts'
import {
  audienceFitsScope,
  type CheckedAnswer,
  checkAnswer,
  printable,
  type Subject,
} from './access-token.ts'
import { requestedClaims } from './challenge.ts'
import type { AcquiredToken, Credential } from './credential.ts'
import { classifyFailure, type FailureKind, TokenFailure } from './failures.ts'
import { type Moment, momentIn, msBetween, msUntil } from './moment.ts'
import type { Token } from './token.ts'

/** Why a token is asked for: nothing usable is there, its time has come, or the upstream answered 401. */
export type AcquireReason = 'needed' | 'due' | 'rejected'

interface TokenEventLabels {
  readonly routes: readonly string[]
  readonly scope: string
  readonly credential: CredentialType
  readonly label: string
}

/** For logs and metrics. No event holds a token or a secret. */
export type TokenEvent = TokenEventLabels &
  (
    | {
        readonly type: 'acquired'
        readonly reason: AcquireReason
        readonly durationMs: number
        /** Epoch milliseconds. */
        readonly expiresAt: number
        /** False when the credential gave the token that was already there. */
        readonly changed: boolean
        readonly subject: Subject
      }
    | {
        readonly type: 'failed'
        readonly reason: AcquireReason
        readonly durationMs: number
        readonly failure: TokenFailure
        /** Failures in a row. */
        readonly failures: number
        readonly retryInMs: number
        /** Whether requests still get the token from before. */
        readonly serving: boolean
      }
    | { readonly type: 'warned'; readonly code: 'audience_differs'; readonly message: string }
  )

/** What people may see of a token: everything but the token. Times are epoch milliseconds. */
export interface TokenState {
  readonly routes: readonly string[]
  readonly scope: string
  readonly audience?: string
  readonly credential: CredentialType
  readonly label: string
  /** Further lines of the credential: with `auto`, why the other candidates lost. */
  readonly notes: readonly string[]
  /** Whether the first attempt has ended, either way. */
  readonly attempted: boolean
  /** Whether a request would get a token at once. */
  readonly usable: boolean
  readonly subject?: Subject
  readonly expiresAt?: number
  readonly refreshAt?: number
  readonly lastRefreshAt?: number
  /** The last failure; gone after a success. */
  readonly lastError?: LastTokenError
}

export interface LastTokenError {
  readonly kind: FailureKind
  readonly code: string
  readonly aadsts?: number
  readonly correlationId?: string
  readonly detail: string
  readonly remedy: string
  readonly at: number
  readonly retryAt: number
}

export interface TokenEntryOptions {
  readonly credential: Credential
  readonly scope: string
  readonly audience?: string | undefined
  readonly clock: Clock
  readonly refreshBeforeMs: number
  /** The longest one acquisition may take. */
  readonly timeoutMs: number
  /** From 0 to 1, for jitter. */
  readonly random: () => number
  readonly onEvent: (event: TokenEvent) => void
}

/** A token that much closer to its end is not handed out: a request needs time to arrive. */
const RESERVE_MS = 30_000
const MIN_BACK_OFF_MS = 1_000
const MAX_BACK_OFF_MS = 60_000
/** A longer Retry-After is taken for a mistake. */
const MAX_RETRY_AFTER_MS = 3_600_000
/** Upstream 401s cause at most one forced acquisition in this time. */
const FORCED_INTERVAL_MS = 30_000
/** Timers are this short because they stand still while the machine sleeps. */
const LONGEST_TIMER_MS = 15_000
/** How soon to ask again a credential that gave the same token back. */
const SAME_TOKEN_RETRY_MS = 30_000

/** A token in service. */
interface Held {
  readonly token: Token
  readonly subject: Subject
  readonly expiry: Moment
  readonly refreshAt: Moment
  /** Milliseconds before the expiry at which the service ends. */
  readonly reserveMs: number
  /** Epoch milliseconds. */
  readonly renewedAt: number
}

interface Attempt {
  readonly reason: AcquireReason
  readonly claims: string | undefined
  /** On the monotonic clock. */
  readonly startedAt: number
  /** How many answers had been taken when it started: tells a late answer whether it is still news. */
  readonly generation: number
}

export class TokenEntry {
  readonly #options: TokenEntryOptions
  readonly #routes = new Set<string>()
  #held: Held | null = null
  /** The acquisition under way; whoever needs a token waits for this one. */
  #flight: Promise<Token> | null = null
  /** When to ask next: the time to refresh, or after a failure the end of the back-off. */
  #next: Moment | null = null
  #failures = 0
  #lastError: LastTokenError | null = null
  #attempted = false
  #generation = 0
  #forcedUntil: Moment | null = null
  /** Claims the upstream asked for, kept while they work: without them a refresh would end in the same challenge. */
  #claims: string | undefined
  #warnedAudience = ''
  #cancelTimer: (() => void) | null = null
  #closed = false

  constructor(options: TokenEntryOptions) {
    this.#options = options
  }

  addRoute(name: string): void {
    this.#routes.add(name)
  }

  setRoutes(names: readonly string[]): void {
    this.#routes.clear()
    for (const name of names) this.#routes.add(name)
  }

  /** See TokenSource. The warm path allocates nothing and reads each clock once. */
  current(): Token | Promise<Token> {
    const held = this.#held
    if (held === null) return this.#needed()
    const { clock } = this.#options
    const wall = clock.now()
    const monotonic = clock.monotonic()
    if (msBetween(wall, monotonic, held.expiry) <= held.reserveMs) return this.#needed()
    const isDue = this.#next !== null && msBetween(wall, monotonic, this.#next) <= 0
    if (isDue && this.#flight === null && !this.#closed) void this.#start('due', this.#claims)
    return held.token
  }

  /** See TokenSource. */
  async rejected(used: Token, challenges: readonly string[]): Promise<Token | null> {
    const replaced = this.#otherThan(used)
    if (replaced !== null) return replaced
    const mayForce = this.#flight === null && !this.#closed && !this.#isBackingOff() && !this.#wasForced()
    if (mayForce) {
      this.#forcedUntil = momentIn(this.#options.clock, FORCED_INTERVAL_MS)
      void this.#start('rejected', requestedClaims(challenges) ?? this.#claims)
    }
    // A refresh that was under way anyway is as fresh as a forced one.
    await this.#flight?.catch(() => undefined)
    return this.#otherThan(used)
  }

  /** The first attempt, or whatever has become of it. Never rejects. */
  async prefetch(): Promise<TokenState> {
    try {
      await this.current()
    } catch {
      // The state says what went wrong.
    }
    return this.state()
  }

  state(): TokenState {
    const { credential, scope, audience } = this.#options
    const held = this.#held
    return {
      routes: [...this.#routes],
      scope,
      ...(audience === undefined ? {} : { audience }),
      credential: credential.type,
      label: credential.label,
      notes: credential.describe?.() ?? [],
      attempted: this.#attempted,
      usable: this.#isUsable(),
      ...(held === null
        ? {}
        : { subject: held.subject, expiresAt: held.token.expiresAt, lastRefreshAt: held.renewedAt }),
      ...(this.#next === null ? {} : { refreshAt: this.#next.wall }),
      ...(this.#lastError === null ? {} : { lastError: this.#lastError }),
    }
  }

  /** Ends the refreshing. A usable token stays usable, but no new one is asked for. */
  close(): void {
    this.#closed = true
    this.#cancelTimer?.()
    this.#cancelTimer = null
  }

  #isUsable(): boolean {
    return this.#held !== null && msUntil(this.#held.expiry, this.#options.clock) > this.#held.reserveMs
  }

  #isDue(): boolean {
    return !this.#closed && this.#next !== null && msUntil(this.#next, this.#options.clock) <= 0
  }

  #isBackingOff(): boolean {
    return this.#failures > 0 && !this.#isDue()
  }

  #wasForced(): boolean {
    return this.#forcedUntil !== null && msUntil(this.#forcedUntil, this.#options.clock) > 0
  }

  #otherThan(used: Token): Token | null {
    const held = this.#held
    return held !== null && this.#isUsable() && held.token.authorization !== used.authorization
      ? held.token
      : null
  }

  #needed(): Promise<Token> {
    if (this.#flight !== null) return this.#flight
    if (this.#closed || this.#isBackingOff()) return Promise.reject(this.#unavailable())
    return this.#start('needed', this.#claims)
  }

  /** Starts the one acquisition under way. It rejects only when there is no usable token at its end. */
  #start(reason: AcquireReason, claims: string | undefined): Promise<Token> {
    const flight = this.#acquire({
      reason,
      claims,
      startedAt: this.#options.clock.monotonic(),
      generation: this.#generation,
    })
    this.#flight = flight
    const settle = () => {
      this.#flight = null
      this.#arm()
    }
    flight.then(settle, settle)
    return flight
  }

  async #acquire(attempt: Attempt): Promise<Token> {
    try {
      return this.#take(await this.#ask(attempt), attempt)
    } catch (error) {
      this.#fail(error, attempt)
      if (this.#held !== null && this.#isUsable()) return this.#held.token
      throw this.#unavailable()
    } finally {
      this.#attempted = true
    }
  }

  /** Asks the credential, within the time limit. An answer after that may still be used, a failure is dropped. */
  #ask(attempt: Attempt): Promise<AcquiredToken> {
    const { credential, scope, clock, timeoutMs } = this.#options
    const force = attempt.reason === 'rejected'
    const request = { force, ...(attempt.claims === undefined ? {} : { claims: attempt.claims }) }
    return new Promise((resolve, reject) => {
      let late = false
      const cancelTimeout = clock.after(timeoutMs, () => {
        late = true
        reject(classifyFailure(undefined, { type: credential.type, scope, timedOutAfterMs: timeoutMs }))
      })
      const answered = (answer: AcquiredToken) => {
        cancelTimeout()
        if (late) this.#takeLate(answer, attempt)
        else resolve(answer)
      }
      const failed = (error: unknown) => {
        cancelTimeout()
        if (!late) reject(error)
      }
      new Promise<AcquiredToken>(begin => begin(credential.acquire(scope, request))).then(answered, failed)
    })
  }

  #takeLate(answer: AcquiredToken, attempt: Attempt): void {
    if (this.#generation !== attempt.generation) return
    try {
      this.#take(answer, attempt)
      if (this.#flight === null) this.#arm()
    } catch {
      // The attempt has already been reported as a failure.
    }
  }

  /** Puts an answer into service, or throws a TokenFailure. */
  #take(raw: AcquiredToken, attempt: Attempt): Token {
    const { clock, scope, audience, credential } = this.#options
    const answer = checkAnswer(raw, { scope, audience, now: clock.now() })
    const before = this.#held
    const authorization = `Bearer ${answer.token}`
    const changed = before === null || before.token.authorization !== authorization
    // Not even its end has moved: the credential answered from a cache of its own.
    const isSame =
      !changed &&
      Math.abs(before.token.expiresAt - answer.expiresAt) <= 1000 &&
      !this.#isMisjudged(before, answer.expiresAt)
    if (isSame && !this.#isUsable()) throw expiringFailure(credential)

    const held = isSame
      ? { ...before, renewedAt: clock.now() }
      : this.#hold(answer, { authorization, expiresAt: answer.expiresAt })
    this.#held = held
    this.#next = isSame ? this.#whenSameToken(held) : held.refreshAt
    this.#generation++
    this.#failures = 0
    this.#lastError = null
    this.#claims = attempt.claims
    this.#emit({
      type: 'acquired',
      reason: attempt.reason,
      durationMs: clock.monotonic() - attempt.startedAt,
      expiresAt: held.token.expiresAt,
      changed,
      subject: held.subject,
    })
    this.#warnOfAudience(answer)
    return held.token
  }

  /** A clock that was ahead at the first answer made the token's life look shorter than it is. */
  #isMisjudged(held: Held, expiresAt: number): boolean {
    const { clock } = this.#options
    return expiresAt - clock.now() - msUntil(held.expiry, clock) > 60_000
  }

  #hold(answer: CheckedAnswer, token: Token): Held {
    const { clock, refreshBeforeMs, random } = this.#options
    const lifeMs = token.expiresAt - clock.now()
    // The jitter keeps gateways that started together from asking together.
    const plannedMs = lifeMs - Math.min(refreshBeforeMs * (1 + random() / 10), lifeMs / 2)
    // A second after the issuer's hint, so that the library, too, thinks the time has come.
    const hintedMs = answer.refreshAfter === undefined ? 0 : answer.refreshAfter - clock.now() + 1000
    return {
      token,
      subject: answer.subject,
      expiry: momentIn(clock, lifeMs),
      refreshAt: momentIn(clock, hintedMs > 1000 ? Math.min(plannedMs, hintedMs) : plannedMs),
      reserveMs: Math.min(RESERVE_MS, lifeMs / 10),
      renewedAt: clock.now(),
    }
  }

  /** When to ask again a credential that gave the same token back: as planned, or soon, but never in a loop. */
  #whenSameToken(held: Held): Moment {
    const { clock } = this.#options
    const retryInMs = Math.min(SAME_TOKEN_RETRY_MS, msUntil(held.expiry, clock) / 4)
    return momentIn(clock, Math.max(msUntil(held.refreshAt, clock), retryInMs))
  }

  #fail(error: unknown, attempt: Attempt): void {
    const { clock, credential, scope, random } = this.#options
    const failure = classifyFailure(error, { type: credential.type, scope })
    this.#failures++
    this.#claims = undefined
    // A loop that has failed for weeks must not overflow the power.
    const doubledMs = MIN_BACK_OFF_MS * 2 ** Math.min(this.#failures - 1, 16)
    const backOffMs = Math.min(MAX_BACK_OFF_MS, doubledMs) * (0.5 + random() / 2)
    const retryInMs = Math.max(backOffMs, Math.min(failure.retryAfterMs ?? 0, MAX_RETRY_AFTER_MS))
    this.#next = momentIn(clock, retryInMs)
    this.#lastError = {
      kind: failure.kind,
      code: failure.code,
      ...(failure.aadsts === undefined ? {} : { aadsts: failure.aadsts }),
      ...(failure.correlationId === undefined ? {} : { correlationId: failure.correlationId }),
      detail: failure.message,
      remedy: failure.remedy,
      at: clock.now(),
      retryAt: this.#next.wall,
    }
    this.#emit({
      type: 'failed',
      reason: attempt.reason,
      durationMs: clock.monotonic() - attempt.startedAt,
      failure,
      failures: this.#failures,
      retryInMs,
      serving: this.#isUsable(),
    })
  }

  #unavailable(): GatewayError {
    const { credential, scope, clock } = this.#options
    const error = this.#lastError
    const seconds = this.#next === null ? 1 : Math.max(1, Math.ceil(msUntil(this.#next, clock) / 1000))
    return new GatewayError(
      'token_unavailable',
      `No token from ${credential.label} for ${scope}: ${error?.detail ?? 'the gateway is stopping'}`,
      error?.remedy ?? 'Start the gateway again.',
      { headers: { 'retry-after': String(seconds) } },
    )
  }

  /** Sets the timer for the next background acquisition, or for the next look at the clocks. */
  #arm(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
    if (this.#closed || this.#next === null) return
    const { clock } = this.#options
    const delayMs = Math.min(Math.max(Math.ceil(msUntil(this.#next, clock)), 1), LONGEST_TIMER_MS)
    this.#cancelTimer = clock.after(delayMs, () => {
      this.#cancelTimer = null
      if (this.#flight !== null) return
      if (!this.#isDue()) return this.#arm()
      // Its failure is kept in the state and sets the next timer.
      this.#start(this.#isUsable() ? 'due' : 'needed', this.#claims).catch(() => undefined)
    })
  }

  #warnOfAudience(answer: CheckedAnswer): void {
    const { audience, scope } = this.#options
    const named = printable(answer.audience.join(', '))
    if (audience !== undefined || named === '' || named === this.#warnedAudience) return
    if (audienceFitsScope(answer.audience, scope)) return
    this.#warnedAudience = named
    this.#emit({
      type: 'warned',
      code: 'audience_differs',
      message: `The token for ${scope} is for the audience ${named}. If the upstream answers 401, compare that with what it expects.`,
    })
  }

  #emit(event: DistributiveOmit<TokenEvent, keyof TokenEventLabels>): void {
    const { credential, scope, onEvent } = this.#options
    onEvent({
      routes: [...this.#routes],
      scope,
      credential: credential.type,
      label: credential.label,
      ...event,
    })
  }
}

type DistributiveOmit<Union, Key extends PropertyKey> = Union extends unknown ? Omit<Union, Key> : never

function expiringFailure(credential: Credential): TokenFailure {
  return new TokenFailure({
    kind: 'transient',
    code: 'token_expiring',
    detail: `${credential.label} gave back the token that is about to expire`,
    remedy: 'It is asked again by itself. For a token file, write a fresh token to it.',
  })
}
