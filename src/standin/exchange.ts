// A request being answered: what a service of the stand-in is given, and what it gives back.

import type { IncomingMessage } from 'node:http'
import type { Clock } from '../clock.ts'
import type { Fault } from './faults.ts'
import type { LogEntry, RequestLog } from './request-log.ts'

/** An answer. A body without `content-length` is sent chunked; a header with several values as several lines. */
export interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string | readonly string[]>>
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>
}

/** What a server serves. */
export interface Service {
  answer(exchange: Exchange): Promise<Answer> | Answer
  /** The error shape of this service for a status that was ordered. */
  failure(status: number, exchange: Exchange): Answer
}

/** A request being answered. */
export class Exchange {
  readonly method: string
  /** The raw path, nothing decoded. */
  readonly path: string
  /** What follows the `?`, raw; '' without one. */
  readonly search: string
  readonly query: URLSearchParams
  /** The server's own origin, `https://localhost:PORT`. */
  readonly origin: string
  readonly request: IncomingMessage
  readonly faults: readonly Fault[]
  readonly log: RequestLog
  readonly entry: LogEntry
  /** Aborted when the connection is done with this request, answered or not. */
  readonly signal: AbortSignal
  readonly #clock: Clock

  constructor(fields: {
    readonly request: IncomingMessage
    readonly origin: string
    readonly faults: readonly Fault[]
    readonly log: RequestLog
    readonly entry: LogEntry
    readonly signal: AbortSignal
    readonly clock: Clock
  }) {
    const target = fields.request.url ?? ''
    const question = target.indexOf('?')
    this.method = fields.request.method ?? ''
    this.path = question < 0 ? target : target.slice(0, question)
    this.search = question < 0 ? '' : target.slice(question + 1)
    this.query = new URLSearchParams(this.search)
    this.origin = fields.origin
    this.request = fields.request
    this.faults = fields.faults
    this.log = fields.log
    this.entry = fields.entry
    this.signal = fields.signal
    this.#clock = fields.clock
  }

  header(name: string): string | undefined {
    const value = this.request.headers[name]
    return Array.isArray(value) ? value.join(', ') : value
  }

  /** The request body as it comes in, counted. */
  async *body(): AsyncGenerator<Buffer> {
    for await (const chunk of this.request) {
      const bytes = chunk as Buffer
      this.entry.bytesIn += bytes.length
      this.log.changed()
      yield bytes
    }
  }

  /** The whole body as text; undefined when it has more than `limit` bytes. */
  async text(limit = 1024 * 1024): Promise<string | undefined> {
    const chunks: Buffer[] = []
    for await (const chunk of this.body()) {
      chunks.push(chunk)
      if (this.entry.bytesIn > limit) return undefined
    }
    return Buffer.concat(chunks).toString()
  }

  /** Waits on the stand-in's clock; ends early when the client is gone. */
  pause(ms: number): Promise<void> {
    if (ms <= 0 || this.signal.aborted) return Promise.resolve()
    return new Promise(resolve => {
      const done = () => {
        cancel()
        this.signal.removeEventListener('abort', done)
        resolve()
      }
      const cancel = this.#clock.after(ms, done)
      this.signal.addEventListener('abort', done)
    })
  }

  /** Waits for `event`, or for good without one; ends early when the client is gone. */
  async hold(event?: Promise<unknown>): Promise<void> {
    if (this.signal.aborted) return
    const gone = new Promise<void>(resolve => {
      this.signal.addEventListener('abort', () => resolve(), { once: true })
    })
    await (event === undefined ? gone : Promise.race([event, gone]))
  }
}
