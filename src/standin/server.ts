// One listening server of the stand-in: its addresses and sockets, its certificate, and the way of a request through it.

import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https'
import {
  type AddressInfo,
  createServer as createTcpServer,
  type Socket,
  type Server as TcpServer,
} from 'node:net'
import type { Clock } from '../clock.ts'
import type { CertificateKind, ServerCertificates } from './certificates.ts'
import { Exchange, type Service } from './exchange.ts'
import type { Door, FaultPlan } from './faults.ts'
import { type Connection, reply } from './reply.ts'
import type { Counters, LoggedRequest, RequestLog } from './request-log.ts'

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

export interface ListenerOptions {
  /** `localhost` is 127.0.0.1 and, where there is one, ::1, on the same port. */
  readonly host: string
  readonly port: number
  readonly clock: Clock
  readonly log: RequestLog
  /** With certificates the server speaks TLS. */
  readonly certificates?: ServerCertificates
}

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
  readonly #certificates: ServerCertificates | undefined
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
    this.#certificates = options.certificates
    const serve = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response)
    this.#http =
      options.certificates === undefined
        ? createHttpServer({ maxHeaderSize: MAX_HEADER_BYTES }, serve)
        : createHttpsServer({ ...options.certificates.good, maxHeaderSize: MAX_HEADER_BYTES }, serve)
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
    return `${this.#certificates === undefined ? 'http' : 'https'}://${host}:${this.#port}`
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
    await Promise.all([...closing, ...[...this.#sockets.values()].map(destroySocket)])
  }

  present(kind: CertificateKind): void {
    if (this.#certificates === undefined || !('setSecureContext' in this.#http)) return
    this.#http.setSecureContext(this.#certificates[kind])
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
      server: createTcpServer({ noDelay: true, allowHalfOpen: this.#certificates === undefined }, socket =>
        this.#accept(socket),
      ),
    }))
  }

  #accept(socket: Socket): void {
    const peer = peerOf(socket)
    this.#sockets.set(peer, socket)
    socket.on('error', () => undefined) // the request's own entry says that the client went away
    socket.once('close', () => {
      if (this.#sockets.get(peer) === socket) this.#sockets.delete(peer)
      this.#log.socketsChanged(this.#sockets.size, 0)
    })
    this.#log.socketsChanged(this.#sockets.size, 1)
    this.#http.emit('connection', socket)
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const service = this.#service!
    const entry = this.#log.begin(request)
    const done = new AbortController()
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
      await reply(exchange, service, connection)
    } catch (error) {
      if (done.signal.aborted || request.errored) return
      const text = `The stand-in failed: ${error instanceof Error ? error.stack : String(error)}\n`
      if (response.headersSent) return void response.destroy()
      this.#log.answered(entry, 500)
      response.writeHead(500, { 'content-type': 'text/plain' }).end(text)
    }
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

function destroySocket(socket: Socket): Promise<void> {
  return new Promise(resolve => {
    socket.once('close', () => resolve())
    socket.destroy()
  })
}

function peerOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`
}
