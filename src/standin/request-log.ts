// What a stand-in server saw: a bounded log, counters, and promises to wait on instead of sleeping.

import type { IncomingMessage } from 'node:http'
import type { Clock } from '../clock.ts'
import { decodePayload, type TokenClaims } from './tokens.ts'

/** One request. Entries are live: what is known only later is filled in until `state` is `ended`. */
export interface LoggedRequest {
  /** Counts from 1 per server. */
  readonly id: number
  /** Arrival, epoch milliseconds of the stand-in's clock. */
  readonly at: number
  readonly method: string
  /** The request target as it came. */
  readonly url: string
  /** Name, value, name, value… as they came, but of Authorization only the scheme and a token's claims. */
  readonly rawHeaders: readonly string[]
  /** Lower-case name → value, repeats joined with `, `; without secrets as well. */
  readonly headers: Readonly<Record<string, string>>
  /** The claims in the bearer token, whoever signed it. */
  readonly token?: Partial<TokenClaims>
  /** The token's `jti`. */
  readonly jti?: string
  /** Entra, IMDS: what was asked for. Secrets and assertions are never kept. */
  readonly tokenRequest?: TokenRequest
  /** The client's port: the same number means the same connection. */
  readonly remotePort: number
  /** Body bytes read so far. */
  readonly bytesIn: number
  /** Body bytes written so far. */
  readonly bytesOut: number
  /** Absent until an answer begins. */
  readonly status?: number
  /** `open` until the answer is complete or the connection is gone; a client may have read it all a moment before. */
  readonly state: 'open' | 'ended'
  /** The client went away before the answer was complete. */
  readonly aborted: boolean
}

export interface TokenRequest {
  /** Entra: the scope. IMDS: the resource. */
  readonly scope: string
  readonly grantType: string
  readonly clientId?: string
  /** The `claims` parameter as it came. */
  readonly claims?: string
}

export interface Counters {
  readonly requests: number
  /** Requests whose client went away early. */
  readonly aborted: number
  /** Answers by status. */
  readonly statuses: Readonly<Record<number, number>>
  /** Requests that carried a token past its `exp`, whatever was answered. */
  readonly expiredTokens: number
  /** Requests refused for want of an acceptable token. */
  readonly refusedTokens: number
  /** Entra, IMDS: token requests by scope (IMDS: by resource), whatever was answered. */
  readonly tokenRequests: Readonly<Record<string, number>>
  /** Entra, IMDS: tokens issued. */
  readonly tokensIssued: number
  readonly openSockets: number
  readonly acceptedSockets: number
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] }

/** An entry as its server fills it in. */
export type LogEntry = Mutable<LoggedRequest>

/** Headers whose value is a secret, besides Authorization. */
const SECRET_HEADERS = new Set(['x-identity-header', 'proxy-authorization', 'cookie'])

export class RequestLog {
  readonly #clock: Clock
  readonly #limit: number
  #entries: LogEntry[] = []
  #open = 0
  #lastId = 0
  #counters = newCounters()
  #watchers = new Set<() => void>()

  constructor(clock: Clock, limit: number) {
    this.#clock = clock
    this.#limit = limit
  }

  get requests(): readonly LoggedRequest[] {
    return this.#entries
  }

  get counters(): Counters {
    return this.#counters
  }

  /** Requests being answered. */
  get open(): number {
    return this.#open
  }

  /** Begins an entry. */
  begin(request: IncomingMessage): LogEntry {
    const at = this.#clock.now()
    const token = bearerPayload(request.headers.authorization)
    const rawHeaders = withoutSecrets(request.rawHeaders)
    this.#lastId += 1
    const entry: LogEntry = {
      id: this.#lastId,
      at,
      method: request.method ?? '',
      url: request.url ?? '',
      rawHeaders,
      headers: joinHeaders(rawHeaders),
      ...(token === undefined ? {} : { token }),
      ...(token?.jti === undefined ? {} : { jti: token.jti }),
      remotePort: request.socket.remotePort ?? 0,
      bytesIn: 0,
      bytesOut: 0,
      state: 'open',
      aborted: false,
    }
    this.#open += 1
    this.#counters.requests += 1
    if (typeof token?.exp === 'number' && token.exp * 1000 <= at) this.#counters.expiredTokens += 1
    this.#entries.push(entry)
    if (this.#entries.length > this.#limit) this.#entries.shift()
    this.changed()
    return entry
  }

  end(entry: LogEntry, aborted: boolean): void {
    entry.state = 'ended'
    entry.aborted = aborted
    this.#open -= 1
    if (aborted) this.#counters.aborted += 1
    this.changed()
  }

  answered(entry: LogEntry, status: number): void {
    entry.status = status
    this.#counters.statuses[status] = (this.#counters.statuses[status] ?? 0) + 1
    this.changed()
  }

  asked(entry: LogEntry, request: TokenRequest): void {
    entry.tokenRequest = request
    this.#counters.tokenRequests[request.scope] = (this.#counters.tokenRequests[request.scope] ?? 0) + 1
    this.changed()
  }

  issued(): void {
    this.#counters.tokensIssued += 1
  }

  refused(): void {
    this.#counters.refusedTokens += 1
  }

  socketsChanged(open: number, accepted: number): void {
    this.#counters.openSockets = open
    this.#counters.acceptedSockets += accepted
    this.changed()
  }

  /** Forgets what was seen; open sockets stay counted. */
  reset(): void {
    const { openSockets } = this.#counters
    this.#entries = []
    this.#counters = { ...newCounters(), openSockets }
    this.changed()
  }

  /** Asks those who wait again. */
  changed(): void {
    for (const watcher of this.#watchers) watcher()
  }

  waitUntil(holds: () => boolean): Promise<void> {
    return this.#wait(() => holds() || undefined).then(() => undefined)
  }

  waitForRequest(accepts: (request: LoggedRequest) => boolean): Promise<LoggedRequest> {
    return this.#wait(() => this.#entries.find(accepts))
  }

  #wait<T>(find: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = () => {
        try {
          const found = find()
          if (found === undefined) return
          resolve(found)
        } catch (error) {
          reject(error)
        }
        this.#watchers.delete(look)
      }
      this.#watchers.add(look)
      look()
    })
  }
}

function newCounters(): Mutable<Counters> & {
  statuses: Record<number, number>
  tokenRequests: Record<string, number>
} {
  return {
    requests: 0,
    aborted: 0,
    statuses: {},
    expiredTokens: 0,
    refusedTokens: 0,
    tokenRequests: {},
    tokensIssued: 0,
    openSockets: 0,
    acceptedSockets: 0,
  }
}

function bearerPayload(authorization: string | undefined): Partial<TokenClaims> | undefined {
  const token = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
  return token === undefined ? undefined : decodePayload(token)
}

/** Header lines fit to be kept and shown: of Authorization the scheme and the claims, of other secrets nothing. */
export function withoutSecrets(rawHeaders: readonly string[]): string[] {
  return rawHeaders.map((text, index) => {
    if (index % 2 === 0) return text
    const name = (rawHeaders[index - 1] ?? '').toLowerCase()
    if (name === 'authorization') return withoutCredentials(text)
    return SECRET_HEADERS.has(name) ? '(hidden)' : text
  })
}

function withoutCredentials(authorization: string): string {
  const claims = bearerPayload(authorization)
  const scheme = /^\S+(?= )/.exec(authorization)?.[0]
  if (scheme === undefined) return '(hidden)'
  return claims === undefined ? `${scheme} (hidden)` : `${scheme} ${JSON.stringify(claims)}`
}

function joinHeaders(rawHeaders: readonly string[]): Record<string, string> {
  const joined: Record<string, string> = {}
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]!.toLowerCase()
    const value = rawHeaders[index + 1]!
    joined[name] = joined[name] === undefined ? value : `${joined[name]}, ${value}`
  }
  return joined
}
