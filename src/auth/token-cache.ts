// The only token cache that counts: one shared state per credential, scope and audience, however many
// routes and requests ask. How a state lives is in token-entry.ts.

import { LRUCache } from 'lru-cache'
import type { Clock } from '../clock.ts'
import type { Credential } from './credential.ts'
import type { Token, TokenSource } from './token.ts'
import { TokenEntry, type TokenEvent, type TokenState } from './token-entry.ts'

export type { LastTokenError, TokenEvent, TokenState } from './token-entry.ts'

export interface TokenCacheOptions {
  readonly clock: Clock
  /** How long before its expiry a token is renewed, milliseconds; half its life at most. */
  readonly refreshBeforeMs: number
  /** The longest one acquisition may take, milliseconds. */
  readonly timeoutMs: number
  /** The most states kept; the least recently used one goes, and its refreshing stops. */
  readonly maxEntries: number
  /** From 0 to 1, for jitter. */
  readonly random?: () => number
  /** Called at each acquisition, failure and warning; must not throw. */
  readonly onEvent: (event: TokenEvent) => void
}

export interface SourceOptions {
  /** The only accepted `aud` of a token that is a JWT. */
  readonly audience?: string | undefined
  /** The route's name, for events and states. */
  readonly route?: string | undefined
}

/** A TokenSource with what its owner needs besides. */
export interface RouteTokenSource extends TokenSource {
  /** Makes the first attempt if there was none. Never rejects. */
  prefetch(): Promise<TokenState>
  state(): TokenState
}

export class TokenCache {
  readonly #options: TokenCacheOptions
  readonly #entries: LRUCache<string, TokenEntry>
  readonly #origins = new WeakMap<TokenSource, { readonly key: string; readonly route: string | undefined }>()
  #closed = false

  constructor(options: TokenCacheOptions) {
    this.#options = options
    this.#entries = new LRUCache<string, TokenEntry>({
      max: options.maxEntries,
      dispose: entry => entry.close(),
    })
  }

  /** Sources of the same credential key, scope and audience share one token. Asks for nothing yet. */
  source(credential: Credential, scope: string, options: SourceOptions = {}): RouteTokenSource {
    const { audience, route } = options
    const key = JSON.stringify([credential.key, scope, audience ?? ''])
    // Looked up at each use, since the entry may have been evicted in between.
    const entry = () => this.#entries.get(key) ?? this.#add(key, credential, scope, audience)
    const entryOfRoute = () => {
      const found = entry()
      if (route !== undefined) found.addRoute(route)
      return found
    }
    entryOfRoute()
    const source: RouteTokenSource = {
      current: () => entry().current(),
      rejected: (used: Token, challenges: readonly string[]) => entry().rejected(used, challenges),
      prefetch: () => entryOfRoute().prefetch(),
      state: () => entryOfRoute().state(),
    }
    this.#origins.set(source, { key, route })
    return source
  }

  /** The first attempt of every state, for start-up. Never rejects; each attempt is bounded by `timeoutMs`. */
  prefetch(): Promise<TokenState[]> {
    return Promise.all([...this.#entries.values()].map(entry => entry.prefetch()))
  }

  /** All states, the most recently used first. */
  snapshot(): TokenState[] {
    return [...this.#entries.values()].map(entry => entry.state())
  }

  /** Drops the states, and the route names, of all other sources and stops their refreshing, after a reload. */
  retain(sources: Iterable<TokenSource>): void {
    const routes = new Map<string, string[]>()
    for (const source of sources) {
      const origin = this.#origins.get(source)
      if (origin === undefined) continue
      const names = routes.get(origin.key) ?? []
      if (origin.route !== undefined) names.push(origin.route)
      routes.set(origin.key, names)
    }
    for (const [key, entry] of [...this.#entries]) {
      const names = routes.get(key)
      if (names === undefined) this.#entries.delete(key)
      else entry.setRoutes(names)
    }
  }

  /** Stops all refreshing. Tokens in hand are served to their end, no new ones are asked for. */
  close(): void {
    this.#closed = true
    for (const entry of this.#entries.values()) entry.close()
  }

  #add(key: string, credential: Credential, scope: string, audience: string | undefined): TokenEntry {
    const { clock, refreshBeforeMs, timeoutMs, onEvent, random = Math.random } = this.#options
    const entry = new TokenEntry({
      credential,
      scope,
      audience,
      clock,
      refreshBeforeMs,
      timeoutMs,
      onEvent,
      random,
    })
    if (this.#closed) entry.close()
    this.#entries.set(key, entry)
    return entry
  }
}
