// The connections of one route: each is an undici Client of its own, so that the connection behind a
// request is known. The one file that imports undici.
//
// Not undici's Pool (7.30.2, measured): a request aborted on a Pool makes its client connect anew for
// nobody, and with a connection limit each request that undici refuses takes one place for good.

import type { SecureContext } from 'node:tls'
import type { Client, Dispatcher } from 'undici'
// Not undici's entry, which loads fetch, WebSocket, caches and mocks: a quarter of the start-up time.
import UndiciClient from 'undici/lib/dispatcher/client.js'
import type { RouteConfig } from '../config/config.ts'

/** Response heads may hold a 5 KB Location and more. */
const MAX_UPSTREAM_HEAD = 65_536

export type UpstreamHandler = Dispatcher.DispatchHandler
export type UpstreamController = Dispatcher.DispatchController
export type UpstreamRequest = Dispatcher.DispatchOptions

export class UpstreamPool {
  readonly #open: () => Client
  readonly #all = new Set<Connection>()
  /** The one used last is taken first, so that the others can grow old and close. */
  readonly #idle: Connection[] = []
  #retired = false

  constructor(config: Pick<RouteConfig, 'upstream' | 'timeouts'>, secureContext?: SecureContext) {
    const { upstream, timeouts } = config
    const options: Client.Options = {
      pipelining: 1,
      allowH2: false,
      connectTimeout: timeouts.connectMs,
      headersTimeout: timeouts.responseMs,
      bodyTimeout: timeouts.idleMs,
      maxHeaderSize: MAX_UPSTREAM_HEAD,
      autoSelectFamily: true,
      connect: secureContext === undefined ? {} : { secureContext },
    }
    this.#open = () => new UndiciClient(upstream.origin, options)
  }

  /**
   * A connection for one request: an idle one, or a new one when there is none or `fresh` asks for it. Give
   * it back with `release` or `drop`.
   */
  take(fresh = false): Connection {
    const idle = fresh ? undefined : this.#idle.pop()
    if (idle !== undefined) return idle
    const connection = new Connection(this.#open(), {
      released: () => {
        if (this.#retired) connection.drop()
        else this.#idle.push(connection)
      },
      dropped: () => {
        this.#all.delete(connection)
        const index = this.#idle.indexOf(connection)
        if (index >= 0) this.#idle.splice(index, 1)
      },
    })
    this.#all.add(connection)
    return connection
  }

  /** Closes what is idle; what is busy closes when its request is done. */
  retire(): void {
    this.#retired = true
    for (const connection of [...this.#idle]) connection.drop()
  }

  /** Cuts every connection. */
  close(): void {
    this.#retired = true
    for (const connection of [...this.#all]) connection.drop()
  }
}

interface ConnectionEvents {
  readonly released: () => void
  readonly dropped: () => void
}

export class Connection {
  readonly #client: Client
  readonly #events: ConnectionEvents
  /** Requests begun on the socket that is open now. */
  #begun = 0
  #busy = false
  #dropped = false

  constructor(client: Client, events: ConnectionEvents) {
    this.#client = client
    this.#events = events
    client.on('connect', () => {
      this.#begun = 0
    })
    client.on('disconnect', () => {
      // While busy its request hears of it, and decides.
      if (!this.#busy) this.drop()
    })
  }

  /** Throws what undici refuses to send. */
  send(request: UpstreamRequest, handler: UpstreamHandler): void {
    this.#busy = true
    this.#client.dispatch(request, handler)
  }

  /** To be called when a request begins on the socket; true when it is the socket's first. */
  begin(): boolean {
    this.#begun++
    return this.#begun === 1
  }

  /** Its request was answered in full: the next one may have it. */
  release(): void {
    this.#busy = false
    if (!this.#dropped) this.#events.released()
  }

  /** Closes the socket at once, whatever is going on. */
  drop(error: Error | null = null): void {
    if (this.#dropped) return
    this.#dropped = true
    this.#events.dropped()
    // The handler hears of it; a failure to close has nobody to tell.
    this.#client.destroy(error).catch(() => {})
  }
}
