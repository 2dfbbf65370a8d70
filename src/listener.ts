// An open port or socket. Fastify is the server shell: it binds (both loopback families for
// `localhost`), limits and closes; each request is taken over raw, before Fastify looks at its body.

import { chmodSync } from 'node:fs'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { Duplex } from 'node:stream'
import fastify, { type FastifyInstance } from 'fastify'
import { isLoopbackHost } from './config/address.ts'
import type { ListenAddress } from './config/config.ts'
import { CommandError, EXIT, GatewayError } from './errors.ts'

/** How big a request head may be, both in the parser and in the guard. */
export const MAX_HEADER_BYTES = 65_536

/** Time a client has for its request head; uploads have no total limit. */
const HEADERS_TIMEOUT_MS = 10_000
/** Longer than the usual client and load balancer keep-alive, so that the client closes first. */
const KEEP_ALIVE_MS = 65_000

/** What the way of a request knows about where it came in. */
export interface ListenerFacts {
  readonly scheme: 'http' | 'https'
  /** TCP port, or 0 for a Unix socket. */
  readonly port: number
  readonly kind: ListenAddress['kind']
  /** The route whose own port this is; undefined for the listeners that serve all routes. */
  readonly routeName: string | undefined
}

export interface ListenerOptions {
  readonly address: ListenAddress
  readonly routeName?: string
  /** PEM texts: serve TLS. */
  readonly tls?: { readonly cert: string; readonly key: string }
  readonly serve: (request: IncomingMessage, response: ServerResponse, facts: ListenerFacts) => void
  /** A request that never became one (bad syntax, CONNECT): counted, answered here. */
  readonly refused?: (error: GatewayError) => void
}

export interface Listener {
  readonly facts: ListenerFacts
  /** `http://localhost:8656` or `unix:/path`. */
  readonly url: string
  /** Every bound address, such as `127.0.0.1:8656` and `[::1]:8656`. */
  readonly addresses: readonly string[]
  /** Stops accepting; open requests go on. Resolves when the last connection is gone. */
  close(): Promise<void>
  /** Cuts every connection. */
  destroy(): void
}

/** Opens `address`. Throws a CommandError (exit 6) when it is taken. */
export async function openListener(options: ListenerOptions): Promise<Listener> {
  const { address, tls } = options
  const facts: MutableFacts = {
    scheme: tls ? 'https' : 'http',
    port: 0,
    kind: address.kind,
    routeName: options.routeName,
  }
  const shells: FastifyInstance[] = []
  const sockets = new Set<Socket>()
  try {
    if (address.kind === 'unix') {
      shells.push(await listen({ path: address.path }, options, facts, sockets))
      chmodSync(address.path, 0o600)
    } else {
      const [first, second] = address.host === 'localhost' ? LOOPBACK : [address.host]
      shells.push(await listen({ host: first, port: address.port }, options, facts, sockets))
      facts.port = (shells[0]!.server.address() as AddressInfo).port
      if (second !== undefined && hasAddress(second)) {
        shells.push(await listen({ host: second, port: facts.port }, options, facts, sockets))
      }
    }
  } catch (error) {
    await Promise.all(shells.map(shell => shell.close()))
    throw listenFailure(address, error)
  }
  return {
    facts,
    url:
      address.kind === 'tcp'
        ? `${facts.scheme}://${bracket(address.host)}:${facts.port}`
        : `unix:${address.path}`,
    addresses: shells.map(({ server }) => {
      const bound = server.address() as AddressInfo | string
      return typeof bound === 'string' ? bound : `${bracket(bound.address)}:${bound.port}`
    }),
    async close() {
      await Promise.all(shells.map(shell => shell.close()))
    },
    destroy() {
      // Node's own list lacks tunnels that were refused and TLS handshakes under way.
      for (const socket of sockets) socket.destroy()
    },
  }
}

/**
 * Both are bound whatever the hosts file says: a client may know `localhost` by either, and nobody else
 * shall answer at the other.
 */
const LOOPBACK = ['127.0.0.1', '::1'] as const

function hasAddress(address: string): boolean {
  return Object.values(networkInterfaces()).some(each => each?.some(entry => entry.address === address))
}

type MutableFacts = { -readonly [K in keyof ListenerFacts]: ListenerFacts[K] }

async function listen(
  where: { host: string; port: number } | { path: string },
  options: ListenerOptions,
  facts: ListenerFacts,
  sockets: Set<Socket>,
): Promise<FastifyInstance> {
  const shell = createShell(options, sockets)
  shell.addHook('onRequest', (request, reply) => {
    reply.hijack()
    request.raw.url = request.originalUrl
    options.serve(request.raw, reply.raw, facts)
  })
  await shell.listen(where)
  return shell
}

function createShell(options: ListenerOptions, sockets: Set<Socket>): FastifyInstance {
  const limits = { maxHeaderSize: MAX_HEADER_BYTES, insecureHTTPParser: false, noDelay: true }
  const shell = {
    logger: false,
    // One constant route: routing is ours, on the raw URL, and no URL can fail before the guard saw it.
    rewriteUrl: () => '/',
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: 0,
    connectionTimeout: 0,
    clientErrorHandler: (error: Error, socket: Socket) => answerClientError(error, socket, options),
  } as const
  // The two calls differ in type only: fastify types the server by the presence of `https`.
  const app = (options.tls
    ? fastify({ ...shell, https: { ...limits, ...options.tls, minVersion: 'TLSv1.2' } })
    : fastify({ ...shell, http: limits })) as unknown as FastifyInstance<Server>

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.setNotFoundHandler(() => {})

  const { server } = app
  server.headersTimeout = HEADERS_TIMEOUT_MS
  // Node 20 drops headers beyond this count without a word; the guard counts them itself.
  server.maxHeadersCount = 0
  const loopbackOnly = options.address.kind === 'tcp' && isLoopbackHost(options.address.host)
  server.on('connection', (socket: Socket) => {
    if (loopbackOnly && !isLoopbackPeer(socket.remoteAddress)) {
      socket.destroy()
      return
    }
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    // Pipelined requests each listen for its end.
    socket.setMaxListeners(0)
  })
  server.on('connect', (_request: IncomingMessage, socket: Duplex) => {
    const error = new GatewayError(
      'method_not_allowed',
      'CONNECT is not served: the gateway is not a forward proxy.',
      'Use the gateway as the base URL instead, for example http://localhost:8656/.',
      { headers: { allow: 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS' } },
    )
    options.refused?.(error)
    endRaw(socket, error)
  })
  return app
}

/** What Node's parser refused. The socket may already be gone. */
function answerClientError(
  error: Error & { code?: string; rawPacket?: Buffer },
  socket: Socket,
  { refused }: ListenerOptions,
): void {
  // Bytes of ours inside an answer under way would be read as part of it.
  const answering = (socket as { _httpMessage?: { headersSent: boolean } })._httpMessage?.headersSent
  if (error.code === 'ECONNRESET' || !socket.writable || answering) {
    socket.destroy()
    return
  }
  const answer =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new GatewayError(
          'headers_too_large',
          `The request head is larger than ${MAX_HEADER_BYTES} bytes.`,
          'Send fewer or smaller headers, or a shorter URL.',
        )
      : new GatewayError(
          'bad_request_target',
          isTls(error)
            ? 'A client spoke TLS to a port that serves plain HTTP.'
            : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
              ? `The request head did not arrive within ${HEADERS_TIMEOUT_MS / 1000} s.`
              : 'This is not a valid HTTP/1.1 request.',
          isTls(error)
            ? 'Write http:// in the client, or configure `tls` for this gateway.'
            : 'Speak plain HTTP/1.1 to this port.',
        )
  refused?.(answer)
  endRaw(socket, answer)
}

/** The first byte of a TLS record that opens a handshake (RFC 8446 section 5.1). */
function isTls(error: { readonly rawPacket?: Buffer }): boolean {
  return error.rawPacket?.[0] === 0x16
}

function endRaw(socket: Duplex, error: GatewayError): void {
  const body = JSON.stringify(error.problem('-'))
  const headers = Object.entries(error.headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.on('error', () => {})
  socket.end(
    `HTTP/1.1 ${error.status} ${error.code}\r\nconnection: close\r\n` +
      `content-type: application/problem+json\r\nx-entra-proxy-error: ${error.code}\r\n${headers.join('')}` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}

function listenFailure(address: ListenAddress, error: unknown): CommandError {
  const where = address.kind === 'tcp' ? `${bracket(address.host)}:${address.port}` : address.path
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'EADDRINUSE' && address.kind === 'unix') {
    return new CommandError(
      EXIT.addressInUse,
      `${where} already exists`,
      `Stop the gateway that listens there; if none does, it is a leftover: rm ${where}`,
      { cause: error },
    )
  }
  if (code === 'EADDRINUSE') {
    return new CommandError(
      EXIT.addressInUse,
      `${where} is already in use`,
      'Stop the program that holds it, or choose another port with --port N (0 takes a free one); `run` also takes --listen HOST:PORT and a `listen` in the configuration.',
      { cause: error },
    )
  }
  return new CommandError(
    EXIT.failure,
    `cannot listen on ${where}: ${code ?? String(error)}`,
    code === 'EACCES'
      ? 'Choose a port above 1023, or a directory this user may write to.'
      : 'Check the address with --listen HOST:PORT; `localhost:8656` is the default.',
    { cause: error },
  )
}

function isLoopbackPeer(address: string | undefined): boolean {
  return address !== undefined && (address === '::1' || /^(::ffff:)?127\./.test(address))
}

function bracket(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}
