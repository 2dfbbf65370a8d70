// One request and its answer: who asked what, what became of it, and the answers the gateway makes
// itself. It ends once, when the response is done or the client has gone; then it is observed.

import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { GatewayError, type GatewayErrorCode } from '../errors.ts'
import { hasBody, type RequestBody } from './body.ts'
import type { Route } from './route.ts'

/** How long an answer waits for the rest of a request body that nobody wants, before the connection closes. */
const LINGER_MS = 1_000

/** Told about each exchange at its end: the access log and the metrics. */
export type Observer = (exchange: Exchange) => void

export class Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly id = randomUUID()
  /** Monotonic milliseconds. */
  readonly startedAt = performance.now()

  /** The request-target in origin form, without a client key; set by the guard. */
  url: string
  route: Route | undefined
  /** Undefined for a request without one. */
  body: RequestBody | undefined
  /** The Host the client used, checked by the guard: `localhost:8656`. */
  host = ''
  /** `/~KEY` when the client presented its key in the path: links must carry it too. */
  keyPrefix = ''
  /** An allowed browser origin that gets CORS headers. */
  corsOrigin: string | undefined
  /** The main listener as this client can reach it, `http://localhost:8656`: what links lead to. */
  gatewayBase = ''
  /** The route's own port as this client reached it; undefined on the main listener. */
  ownPortBase: string | undefined

  status = 0
  source: 'gateway' | 'upstream' = 'gateway'
  errorCode: GatewayErrorCode | undefined
  /** True when the client left before its answer was complete. */
  aborted = false
  /** True when the upstream's body broke off after its head had gone to the client. */
  cut = false
  /** What no code foresaw: for the log, never for the client. */
  bug: unknown
  responseBytes = 0
  /** Milliseconds spent waiting for a token; 0 when it was cached. */
  tokenMs = 0
  /** Milliseconds from sending to the upstream's response head. */
  upstreamMs = 0
  /** Milliseconds from the request head to sending, waiting for a token and a place included. */
  overheadMs = 0
  endedAt = 0
  /** Upstream attempts, and why another one was or was not made after a 401 or a dead connection. */
  attempts = 0
  retry: string | undefined
  azureRequestId: string | undefined

  constructor(request: IncomingMessage, response: ServerResponse, observe: Observer) {
    this.request = request
    this.response = response
    this.url = request.url ?? '/'
    const { socket } = request
    // Node 20 does not tell a pipelined response behind another one that its connection has gone.
    const onSocketClose = () => {
      if (this.endedAt === 0) response.emit('close')
    }
    socket.once('close', onSocketClose)
    response.once('close', () => {
      socket.off('close', onSocketClose)
      this.endedAt = performance.now()
      this.aborted = !response.writableFinished && !this.cut
      observe(this)
    })
  }

  /** Body bytes taken from the client. */
  get requestBytes(): number {
    return this.body?.bytes ?? 0
  }

  /** Answers with problem details; cuts the connection when an answer is already under way. */
  fail(error: unknown): void {
    const { response, request } = this
    this.body?.destroy()
    if (response.headersSent) {
      this.cut = true
      response.destroy()
      return
    }
    if (!(error instanceof GatewayError)) this.bug = error
    const known = error instanceof GatewayError ? error : unexpected(error)
    this.errorCode = known.code
    this.status = known.status
    this.source = 'gateway'
    const body = Buffer.from(`${JSON.stringify(known.problem(this.id, this.route?.name))}\n`)
    const headers: Record<string, string> = {
      'content-type': 'application/problem+json',
      'content-length': String(body.length),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-entra-proxy-error': known.code,
      'x-entra-proxy-request-id': this.id,
      ...known.headers,
    }
    if (this.corsOrigin !== undefined) Object.assign(headers, corsHeaders(this.corsOrigin))
    const unread = !request.complete && hasBody(request)
    if (unread) headers['connection'] = 'close'
    this.responseBytes = body.length
    response.sendDate = true
    response.writeHead(known.status, headers)
    if (!unread) {
      response.end(body)
      return
    }
    // Closing while the client still writes would reset the connection and lose this answer.
    response.write(body)
    const end = () => {
      clearTimeout(timer)
      response.end()
    }
    const timer = setTimeout(end, LINGER_MS)
    request.once('end', end).once('close', end).resume()
  }
}

/** Headers that let a page of an allowed origin read the answer (Fetch standard, CORS protocol). */
export function corsHeaders(origin: string): Record<string, string> {
  return {
    'access-control-allow-origin': origin,
    'access-control-expose-headers': '*',
    vary: 'origin',
  }
}

/** A bug of ours must look like one, and must not leak: no message, only a code and the request id. */
function unexpected(error: unknown): GatewayError {
  return new GatewayError(
    'upstream_protocol',
    'The gateway could not handle this exchange.',
    'Look up the request id in the gateway log and report it with that line.',
    { cause: error },
  )
}
