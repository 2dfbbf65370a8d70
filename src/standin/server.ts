// One listening server of the stand-in: sockets, log, and every fault that has nothing to do with what is served.

import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https'
import {
  type AddressInfo,
  createServer as createTcpServer,
  type Socket,
  type Server as TcpServer,
} from 'node:net'
import type { Clock } from '../clock.ts'
import type { CertificateAuthority, CertificateKind } from './certificates.ts'
import { type Door, type Fault, type FaultPlan, findFault } from './faults.ts'
import type { Counters, LogEntry, LoggedRequest, RequestLog } from './request-log.ts'

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

/** What every server of the stand-in shows. */
export interface StandinServer {
  /** The origin, no trailing slash: `https://localhost:PORT`; IMDS `http://127.0.0.1:PORT`. */
  readonly url: string
  readonly hostname: string
  readonly port: number
  /** Oldest first, bounded by `requestLogLimit`. */
  readonly requests: readonly LoggedRequest[]
  readonly counters: Counters
  /** The first request, kept or still to come, that `accepts`; asked again whenever an entry changes. */
  waitForRequest(accepts: (request: LoggedRequest) => boolean): Promise<LoggedRequest>
  /** Fulfilled when no request is being answered. */
  waitForIdle(): Promise<void>
  /** Fulfilled when `holds` does; asked again after each change of the log, the counters or the sockets. */
  waitUntil(holds: () => boolean): Promise<void>
}

/** A request being answered. */
export class Exchange {
  readonly method: string
  /** The raw path, nothing decoded. */
  readonly path: string
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
    this.query = new URLSearchParams(question < 0 ? '' : target.slice(question + 1))
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

export interface ListenerOptions {
  /** `localhost` is 127.0.0.1 and, where there is one, ::1, on the same port. */
  readonly host: string
  readonly port: number
  readonly clock: Clock
  readonly log: RequestLog
  /** With an authority the server speaks TLS. */
  readonly authority?: CertificateAuthority
}

const PIECE_BYTES = 64 * 1024
const MAX_HEADER_BYTES = 64 * 1024
const LISTEN_ATTEMPTS = 20

/**
 * The sockets are accepted here and handed to Node's HTTP server, which itself never listens: so one server serves
 * two addresses, can be shut and opened again, and the bare socket under a TLS connection is at hand for a reset.
 */
export class Listener implements Door {
  readonly #host: string
  readonly #clock: Clock
  readonly #log: RequestLog
  readonly #authority: CertificateAuthority | undefined
  readonly #http: ReturnType<typeof createHttpServer> | HttpsServer
  readonly #sockets = new Map<string, Socket>()
  #acceptors: TcpServer[] = []
  #presented: CertificateKind = 'good'
  #port: number
  #service: Service | undefined
  #faults: FaultPlan | undefined

  constructor(options: ListenerOptions) {
    this.#host = options.host
    this.#port = options.port
    this.#clock = options.clock
    this.#log = options.log
    this.#authority = options.authority
    const serve = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response)
    this.#http =
      options.authority === undefined
        ? createHttpServer({ maxHeaderSize: MAX_HEADER_BYTES }, serve)
        : createHttpsServer({ ...options.authority.issue(), maxHeaderSize: MAX_HEADER_BYTES }, serve)
    // Like Azure's: idle connections are kept, and no Keep-Alive header says for how long.
    this.#http.keepAliveTimeout = 0
  }

  get port(): number {
    return this.#port
  }

  get hostname(): string {
    return this.#host
  }

  get url(): string {
    const host = this.#host.includes(':') ? `[${this.#host}]` : this.#host
    return `${this.#authority === undefined ? 'http' : 'https'}://${host}:${this.#port}`
  }

  /** Serves from now on. */
  start(service: Service, faults: FaultPlan): Promise<void> {
    this.#service = service
    this.#faults = faults
    return this.open()
  }

  /** Listens, again on the same port once it has one. Does nothing when it already does. */
  async open(): Promise<void> {
    if (this.#acceptors.length > 0) return
    for (let attempt = 1; ; attempt += 1) {
      const acceptors = this.#createAcceptors()
      try {
        this.#port = await listenTogether(acceptors, this.#port)
        this.#acceptors = acceptors.map(({ server }) => server).filter(server => server.listening)
        return
      } catch (error) {
        await Promise.all(acceptors.map(({ server }) => closeServer(server)))
        // A port that was free for 127.0.0.1 may be taken for ::1: then another one.
        if (this.#port !== 0 || attempt >= LISTEN_ATTEMPTS) throw error
      }
    }
  }

  /** Stops listening and drops the open connections. */
  async shut(): Promise<void> {
    const closing = this.#acceptors.map(closeServer)
    this.#acceptors = []
    for (const socket of this.#sockets.values()) socket.destroy()
    await Promise.all(closing)
  }

  present(kind: CertificateKind): void {
    if (this.#authority === undefined || !('setSecureContext' in this.#http)) return
    this.#http.setSecureContext(this.#authority.issue({ kind }))
    this.#presented = kind
    for (const socket of this.#sockets.values()) socket.destroy()
  }

  /** Undoes what was ordered: listens, and shows a good certificate. */
  async restore(): Promise<void> {
    if (this.#presented !== 'good') this.present('good')
    await this.open()
  }

  #createAcceptors(): Acceptor[] {
    const addresses = this.#host === 'localhost' ? ['127.0.0.1', '::1'] : [this.#host]
    return addresses.map((address, index) => ({
      address,
      optional: index > 0,
      server: createTcpServer({ noDelay: true, allowHalfOpen: this.#authority === undefined }, socket =>
        this.#accept(socket),
      ),
    }))
  }

  #accept(socket: Socket): void {
    const peer = peerOf(socket)
    this.#sockets.set(peer, socket)
    socket.on('error', () => undefined) // the request's own entry says that the client went away
    socket.once('close', () => {
      this.#sockets.delete(peer)
      this.#log.socketsChanged(this.#sockets.size, 0)
    })
    this.#log.socketsChanged(this.#sockets.size, 1)
    this.#http.emit('connection', socket)
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const service = this.#service!
    const entry = this.#log.begin(request)
    const done = new AbortController()
    // Our own cut looks like a client that left, so the one who cuts says so.
    const connection: Connection = { response, bare: this.#bareSocket(request), cut: false }
    response.once('close', () => {
      this.#log.end(entry, !response.writableFinished && !connection.cut)
      done.abort()
    })
    const exchange = new Exchange({
      request,
      origin: this.url,
      faults: this.#faults!.take(entry),
      log: this.#log,
      entry,
      signal: done.signal,
      clock: this.#clock,
    })
    try {
      await this.#answer(exchange, service, connection)
    } catch (error) {
      if (done.signal.aborted || request.errored) return
      const text = `The stand-in failed: ${error instanceof Error ? error.stack : String(error)}\n`
      if (response.headersSent) response.destroy()
      else response.writeHead(500, { 'content-type': 'text/plain' }).end(text)
    }
  }

  async #answer(exchange: Exchange, service: Service, connection: Connection): Promise<void> {
    for (const fault of exchange.faults) {
      if (fault.kind === 'delay') await exchange.pause(fault.ms)
      if (fault.kind === 'hold') await exchange.hold(fault.until)
    }
    if (exchange.signal.aborted) return
    for (const fault of exchange.faults) {
      if (fault.kind === 'silent') return
      if (fault.kind === 'drop') return cut(connection, fault.how ?? 'rst')
      if (fault.kind === 'raw') return sendRaw(connection, fault.bytes)
      if (fault.kind === 'status') return send(exchange, connection, orderedAnswer(fault, service, exchange))
    }
    await send(exchange, connection, await service.answer(exchange))
  }

  /** The TCP socket under a request's connection. */
  #bareSocket(request: IncomingMessage): Socket {
    return this.#sockets.get(peerOf(request.socket)) ?? request.socket
  }
}

/** What the stand-in shows of a server. */
export function describe(listener: Listener, log: RequestLog): StandinServer {
  return {
    url: listener.url,
    hostname: listener.hostname,
    port: listener.port,
    get requests() {
      return log.requests
    },
    get counters() {
      return log.counters
    },
    waitForRequest: accepts => log.waitForRequest(accepts),
    waitForIdle: () => log.waitUntil(() => log.open === 0),
    waitUntil: holds => log.waitUntil(holds),
  }
}

interface Acceptor {
  readonly address: string
  /** The machine may have no such address. */
  readonly optional: boolean
  readonly server: TcpServer
}

/** Listens on the same port everywhere; rejects with the first error that counts. */
async function listenTogether(acceptors: readonly Acceptor[], wantedPort: number): Promise<number> {
  let port = wantedPort
  for (const { server, address, optional } of acceptors) {
    try {
      port = await listen(server, port, address)
    } catch (error) {
      const missing = ['EADDRNOTAVAIL', 'EAFNOSUPPORT'].includes((error as NodeJS.ErrnoException).code ?? '')
      if (!(optional && missing)) throw error
    }
  }
  return port
}

function listen(server: TcpServer, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host, ipv6Only: true }, () => {
      server.off('error', reject)
      resolve((server.address() as AddressInfo).port)
    })
  })
}

function closeServer(server: TcpServer): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve())
  })
}

function peerOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`
}

interface Connection {
  readonly response: ServerResponse
  readonly bare: Socket
  cut: boolean
}

function cut(connection: Connection, how: 'rst' | 'fin'): void {
  connection.cut = true
  if (how === 'rst') connection.bare.resetAndDestroy()
  else connection.response.socket?.destroySoon()
}

function sendRaw(connection: Connection, bytes: string): void {
  connection.cut = true
  const { socket } = connection.response
  socket?.write(bytes, 'latin1')
  socket?.destroySoon()
}

function orderedAnswer(
  fault: Extract<Fault, { kind: 'status' }>,
  service: Service,
  exchange: Exchange,
): Answer {
  const shape = service.failure(fault.status, exchange)
  return {
    status: fault.status,
    headers: {
      ...shape.headers,
      ...(fault.retryAfter === undefined ? {} : { 'retry-after': String(fault.retryAfter) }),
      ...fault.headers,
    },
    ...(fault.body === undefined ? { body: shape.body ?? '' } : { body: fault.body }),
  }
}

async function send(exchange: Exchange, connection: Connection, answer: Answer): Promise<void> {
  const { response } = connection
  if (exchange.signal.aborted) return
  response.writeHead(answer.status, { ...answer.headers } as Record<string, string | string[]>)
  exchange.log.answered(exchange.entry, answer.status)
  const { body } = answer
  if (body === undefined || !hasBody(exchange.method, answer.status)) return void response.end()
  const whole = typeof body === 'string' ? Buffer.from(body) : body instanceof Uint8Array ? body : undefined
  if (whole !== undefined && whole.length <= PIECE_BYTES && !exchange.faults.some(isBodyFault)) {
    exchange.entry.bytesOut = whole.length
    return void response.end(whole)
  }
  response.flushHeaders()
  const complete = await sendPieces(exchange, connection, whole ?? (body as AsyncIterable<Uint8Array>))
  if (complete) response.end()
}

function isBodyFault(fault: Fault): boolean {
  return fault.kind === 'slow-body' || fault.kind === 'stall-body' || fault.kind === 'cut-body'
}

/** False when the body came to an untimely end, by order or because the client is gone. */
async function sendPieces(
  exchange: Exchange,
  connection: Connection,
  body: Uint8Array | AsyncIterable<Uint8Array>,
): Promise<boolean> {
  const slow = findFault(exchange.faults, 'slow-body')
  const stall = findFault(exchange.faults, 'stall-body')
  const scissors = findFault(exchange.faults, 'cut-body')
  let untilStop = (scissors ?? stall)?.afterBytes ?? Number.POSITIVE_INFINITY
  /** True when the body may go on. */
  const stop = async () => {
    untilStop = Number.POSITIVE_INFINITY
    if (scissors === undefined) await exchange.hold(stall?.until)
    else cut(connection, scissors.how ?? 'fin')
    return scissors === undefined
  }
  for await (const piece of pieces(body, slow?.bytes ?? PIECE_BYTES)) {
    if (slow !== undefined && exchange.entry.bytesOut > 0) await exchange.pause(slow.pauseMs)
    const before = piece.subarray(0, Math.min(piece.length, untilStop))
    if (!(await write(exchange, connection.response, before))) return false
    untilStop -= before.length
    if (untilStop > 0) continue
    if (!(await stop())) return false
    if (!(await write(exchange, connection.response, piece.subarray(before.length)))) return false
  }
  if (untilStop < Number.POSITIVE_INFINITY && !(await stop())) return false
  return !exchange.signal.aborted
}

function hasBody(method: string, status: number): boolean {
  return method !== 'HEAD' && status !== 204 && status !== 304
}

async function* pieces(
  body: Uint8Array | AsyncIterable<Uint8Array>,
  size: number,
): AsyncGenerator<Uint8Array> {
  if (body instanceof Uint8Array) yield* slices(body, size)
  else for await (const chunk of body) yield* slices(chunk, size)
}

function* slices(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size)
}

/** Writes and waits until the socket has taken it; false when the client is gone. */
function write(exchange: Exchange, response: ServerResponse, bytes: Uint8Array): Promise<boolean> {
  if (exchange.signal.aborted) return Promise.resolve(false)
  if (bytes.length === 0) return Promise.resolve(true)
  return new Promise(resolve => {
    const settle = (written: boolean) => {
      exchange.signal.removeEventListener('abort', gone)
      resolve(written)
    }
    const gone = () => settle(false)
    exchange.signal.addEventListener('abort', gone)
    response.write(bytes, error => {
      if (error) return settle(false)
      exchange.entry.bytesOut += bytes.length
      exchange.log.changed()
      settle(true)
    })
  })
}
