// How a stand-in server misbehaves on order: what goes wrong, for which requests, and how often.

import { isDeepStrictEqual } from 'node:util'
import type { CertificateKind } from './certificates.ts'
import type { LoggedRequest } from './request-log.ts'
import type { TokenClaims } from './tokens.ts'

/** One way to misbehave. Times run on the stand-in's clock: with a manual clock they pass when it is advanced. */
export type Fault =
  /** Answers this status. Without `body` it has the server's own error shape; `retryAfter` is in seconds. */
  | {
      readonly kind: 'status'
      readonly status: number
      readonly retryAfter?: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: string
    }
  /** Answers after this time. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** Answers once `until` is fulfilled. */
  | { readonly kind: 'hold'; readonly until: Promise<unknown> }
  /** Takes the request and never answers. */
  | { readonly kind: 'silent' }
  /** Closes the connection before the first byte of an answer, by a reset (default) or an orderly end. */
  | { readonly kind: 'drop'; readonly how?: 'rst' | 'fin' }
  /** Writes these bytes (latin1) where an HTTP answer belongs, then closes. */
  | { readonly kind: 'raw'; readonly bytes: string }
  /** Sends the body in pieces of `bytes`, with a pause before each but the first. */
  | { readonly kind: 'slow-body'; readonly bytes: number; readonly pauseMs: number }
  /** Stops after `afterBytes` of the body until `until` is fulfilled; without it, for good. */
  | { readonly kind: 'stall-body'; readonly afterBytes: number; readonly until?: Promise<unknown> }
  /** Closes the connection after `afterBytes` of the body, by an orderly end (default) or a reset. */
  | { readonly kind: 'cut-body'; readonly afterBytes: number; readonly how?: 'rst' | 'fin' }
  /** Entra and IMDS only: a 200 whose token is of no use. */
  | { readonly kind: 'bad-token'; readonly answer: BadTokenAnswer }
  /** Entra and IMDS only: tokens live this long. */
  | { readonly kind: 'token-life'; readonly seconds: number }

/**
 * `html`: a page instead of JSON · `empty`: '' as the token · `missing`: no token field · `no-lifetime`: no expiry
 * field · `crlf`: CR LF and a header line inside the token · `wrong-audience`: a good token for another service.
 */
export type BadTokenAnswer = 'html' | 'empty' | 'missing' | 'no-lifetime' | 'crlf' | 'wrong-audience'

export interface FaultOptions {
  /** Only requests that it accepts, seen as they arrive: method, target, headers, token. Default all. */
  readonly when?: (request: LoggedRequest) => boolean
}

/** A fault in force. */
export interface OrderedFault {
  /** How often it struck. */
  readonly hits: number
  /** Takes it back. */
  clear(): void
}

/** What a fault can do to the server as a whole. */
export interface Door {
  shut(): Promise<void>
  open(): Promise<void>
  present(kind: CertificateKind): void
}

/**
 * The faults ordered from one server. A request gets every standing fault that accepts it and the oldest one-time
 * fault that does: `set({ kind: 'delay', ms: 100 })` and `next({ kind: 'status', status: 503 })` make a late 503.
 */
export class FaultPlan {
  readonly #door: Door
  #standing: Order[] = []
  #oneTime: Order[] = []

  constructor(door: Door) {
    this.#door = door
  }

  /** The next `times` (default 1) requests get this fault. */
  next(fault: Fault, options: FaultOptions & { readonly times?: number } = {}): OrderedFault {
    return this.#add(this.#oneTime, fault, options.when, options.times ?? 1)
  }

  /** Every request gets this fault until it is cleared. */
  set(fault: Fault, options: FaultOptions = {}): OrderedFault {
    return this.#add(this.#standing, fault, options.when, Number.POSITIVE_INFINITY)
  }

  /** Takes every fault back; the door and the certificate stay as they are. */
  clear(): void {
    this.#standing.length = 0
    this.#oneTime.length = 0
  }

  /** Stops listening and drops every open connection: new ones are refused. */
  refuseConnections(): Promise<void> {
    return this.#door.shut()
  }

  /** Listens again, on the same port. */
  acceptConnections(): Promise<void> {
    return this.#door.open()
  }

  /** The certificate of every later connection (HTTPS servers only). Drops the open ones. */
  presentCertificate(kind: CertificateKind): void {
    this.#door.present(kind)
  }

  /** For the server: the faults of this request, one-time ones used up. */
  take(request: LoggedRequest): readonly Fault[] {
    const struck = this.#standing.filter(order => order.accepts(request))
    const once = this.#oneTime.find(order => order.accepts(request))
    if (once !== undefined) struck.push(once)
    for (const order of struck) {
      order.hits += 1
      if (order.hits >= order.times) order.clear()
    }
    return struck.map(order => order.fault)
  }

  #add(orders: Order[], fault: Fault, when: FaultOptions['when'], times: number): OrderedFault {
    const order: Order = {
      fault,
      times,
      hits: 0,
      accepts: when ?? (() => true),
      clear() {
        const index = orders.indexOf(order)
        if (index >= 0) orders.splice(index, 1)
      },
    }
    orders.push(order)
    return order
  }
}

interface Order extends OrderedFault {
  readonly fault: Fault
  readonly times: number
  hits: number
  accepts(request: LoggedRequest): boolean
}

/** The faults of a server that wants tokens: it can turn against tokens that are otherwise good. */
export class ResourceFaults extends FaultPlan {
  readonly #issuedSoFar: () => number
  #revoked = new Set<string>()
  #revokedUpTo = 0
  #required: Readonly<Record<string, unknown>> | undefined

  constructor(door: Door, issuedSoFar: () => number) {
    super(door)
    this.#issuedSoFar = issuedSoFar
  }

  /** 401 for the token with this `jti`. */
  revoke(jti: string): void {
    this.#revoked.add(jti)
  }

  /** 401 for every token issued so far, until one issued later comes. */
  revokeAll(): void {
    this.#revokedUpTo = this.#issuedSoFar()
  }

  /**
   * 401 with a claims challenge for every token that was not issued for these claims, the `access_token` member of a
   * claims request: `{ nbf: { essential: true, value: '1603742800' } }`.
   */
  requireClaims(claims: Readonly<Record<string, unknown>>): void {
    this.#required = claims
  }

  override clear(): void {
    super.clear()
    this.#revoked.clear()
    this.#revokedUpTo = 0
    this.#required = undefined
  }

  /** For the server. */
  isRevoked(token: TokenClaims): boolean {
    return token.seq <= this.#revokedUpTo || this.#revoked.has(token.jti)
  }

  /** For the server: the claims to ask for, undefined when the token has them. */
  missingClaims(token: TokenClaims): Readonly<Record<string, unknown>> | undefined {
    const required = this.#required
    if (required === undefined) return undefined
    const requested = token.requested_claims ?? {}
    const met = Object.entries(required).every(([name, value]) => isDeepStrictEqual(requested[name], value))
    return met ? undefined : required
  }
}

/** The first of the faults that is of this kind. */
export function findFault<Kind extends Fault['kind']>(
  faults: readonly Fault[],
  kind: Kind,
): Extract<Fault, { kind: Kind }> | undefined {
  return faults.find((fault): fault is Extract<Fault, { kind: Kind }> => fault.kind === kind)
}
