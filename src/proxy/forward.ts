// The exchange with the upstream, on undici's dispatch: streamed both ways with back-pressure, never
// followed, retried only where nothing can have happened twice.

import type { Token } from '../auth/token.ts'
import type { RouteConfig } from '../config/config.ts'
import { GatewayError } from '../errors.ts'
import { ClientGone, type RequestBody } from './body.ts'
import type { Connection, UpstreamController, UpstreamHandler, UpstreamRequest } from './connections.ts'
import { corsHeaders, type Exchange } from './exchange.ts'
import { findHeader, inboundHeaders } from './headers.ts'
import { JsonLinkRewriter } from './json-links.ts'
import { rewriteLinkHeaders } from './links.ts'
import { type BodyRewriter, openBodyRewriter } from './rewrite.ts'
import type { Route } from './route.ts'

/** Interim answers (103 Early Hints) before the final one; more is a flood. */
const MAX_INTERIM = 32
/** How much of a 401's body is held while its token is judged; they are a page at most. */
const MAX_WAITING_BYTES = 65_536
/** Methods that may be sent twice: RFC 9110 section 9.2.2. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS'])

/** What is sent: the same for a second attempt, but for the last header pair, the token. */
export interface Outbound {
  readonly exchange: Exchange
  readonly route: Route
  readonly method: UpstreamRequest['method']
  readonly path: string
  readonly headers: string[]
}

/** Sends the request and streams the answer to the client. All failures end in `exchange.fail`. */
export function forward(outbound: Outbound, token: Token): void {
  new Attempt(outbound, token, outbound.exchange.body ?? null).send()
}

class Attempt implements UpstreamHandler {
  readonly #outbound: Outbound
  readonly #exchange: Exchange
  readonly #token: Token
  readonly #body: RequestBody | Buffer | null
  readonly #connection: Connection
  #controller: UpstreamController | undefined
  #freshSocket = false
  /** The attempt is over for the client's side: answered, replaced or given up. */
  #over = false
  #interim = 0
  #status = 0
  #statusMessage: string | undefined
  /** The response head, until it is written: it waits for the first bytes of the body, at most a tick. */
  #head: string[] | undefined
  #held: Buffer | undefined
  #rewriter: BodyRewriter | undefined
  #sentAt = 0
  #paused = false
  /** A 401 waits for the verdict on its token; the connection may be lost meanwhile. */
  #judging = false
  /** Its body meanwhile. */
  readonly #waiting: Buffer[] = []
  #waitingBytes = 0
  #ended = false
  #lost: Error | undefined

  constructor(
    outbound: Outbound,
    token: Token,
    body: RequestBody | Buffer | null,
    onFreshConnection = false,
  ) {
    this.#outbound = outbound
    this.#exchange = outbound.exchange
    this.#token = token
    this.#body = body
    this.#connection = outbound.route.pool.take(onFreshConnection)
  }

  send(): void {
    const { method, path, headers } = this.#outbound
    const { response } = this.#exchange
    this.#exchange.attempts++
    headers[headers.length - 1] = this.#token.authorization
    response.on('close', this.#onClientClose)
    this.#sentAt = performance.now()
    if (this.#exchange.attempts === 1) this.#exchange.overheadMs = this.#sentAt - this.#exchange.startedAt
    try {
      this.#connection.send(
        // HEAD would otherwise close the upstream connection each time.
        { method, path, headers, body: this.#body, ...(method === 'HEAD' ? { reset: false } : {}) },
        this,
      )
    } catch (error) {
      this.#fail(error)
    }
  }

  onRequestStart(controller: UpstreamController): void {
    this.#controller = controller
    this.#freshSocket = this.#connection.begin()
  }

  onResponseStart(
    controller: UpstreamController,
    status: number,
    _headers: unknown,
    statusMessage?: string,
  ): void {
    if (status < 200) {
      if (++this.#interim > MAX_INTERIM) controller.abort(new Error('too many interim responses'))
      return
    }
    const { route } = this.#outbound
    this.#exchange.upstreamMs = performance.now() - this.#sentAt
    this.#status = status
    this.#statusMessage = isReasonPhrase(statusMessage) ? statusMessage : undefined
    this.#head = inboundHeaders((controller.rawHeaders ?? []) as Buffer[], route.headers, this.#exchange.id)
    if (status === 401 && this.#exchange.attempts === 1) {
      this.#onUnauthorized()
      return
    }
    this.#beginAnswer()
  }

  onResponseData(controller: UpstreamController, chunk: Buffer): void {
    if (this.#over) return
    if (this.#judging) {
      // Not paused while it is small: undici 7.30.2 asserts when a paused connection is reset (#5360).
      this.#waiting.push(chunk)
      this.#waitingBytes += chunk.length
      if (this.#waitingBytes > MAX_WAITING_BYTES) this.#pause(controller)
      return
    }
    this.#take(controller, chunk)
  }

  #take(controller: UpstreamController, chunk: Buffer): void {
    if (this.#head !== undefined && this.#held === undefined && this.#rewriter === undefined) {
      this.#held = chunk
      return
    }
    if (this.#rewriter !== undefined) {
      if (!this.#rewriter.write(chunk)) this.#pause(controller)
      return
    }
    this.#flush()
    this.#write(chunk)
  }

  onResponseEnd(): void {
    if (this.#over) return
    if (this.#judging) {
      this.#ended = true
      return
    }
    this.#end()
  }

  #end(): void {
    if (this.#rewriter !== undefined) this.#rewriter.end()
    else this.#finish()
  }

  onResponseError(_controller: UpstreamController, error: Error): void {
    if (this.#over) return
    if (this.#judging) {
      this.#lost = error
      return
    }
    // undici 7 counts the body of a 304, which has none, against its Content-Length (RFC 9110 8.6).
    if (this.#status === 304 && codeOf(error) === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') {
      this.#finish()
      return
    }
    if (this.#mayRetry(error)) {
      this.#exchange.retry = 'connection-lost'
      this.#replace(this.#token)
      return
    }
    this.#fail(error)
  }

  /** The answer is the one to pass on: decide what becomes of its body, and let the first bytes join its head. */
  #beginAnswer(): void {
    const { exchange } = this
    const { links } = this.#outbound.route
    const head = this.#head!
    exchange.status = this.#status
    exchange.source = 'upstream'
    exchange.azureRequestId = findHeader(head, 'request-id') ?? findHeader(head, 'x-ms-request-id')
    if (links !== undefined) {
      const origin = {
        route: this.#outbound.route.name,
        gateway: exchange.gatewayBase,
        ownPort: exchange.ownPortBase,
      }
      rewriteLinkHeaders(head, links.links, origin)
      if (links.json && this.#outbound.method !== 'HEAD' && hasRewritableStatus(this.#status)) {
        this.#rewriter = openBodyRewriter(head, () => new JsonLinkRewriter(links.links, origin), {
          write: chunk => this.#deliver(chunk),
          end: () => this.#finish(),
          fail: error => this.#fail(error),
          resume: () => this.#resume(),
        })
      }
    }
    if (exchange.corsOrigin !== undefined) addCors(head, exchange.corsOrigin)
    process.nextTick(flushLater, this)
  }

  get exchange(): Exchange {
    return this.#exchange
  }

  /** A rewritten chunk; false when the client is behind. */
  #deliver(chunk: Buffer): boolean {
    if (this.#head !== undefined && this.#held === undefined) {
      this.#held = chunk
      return true
    }
    this.#flush()
    return this.#write(chunk)
  }

  /** Writes the head and what was held with it. Called again, it does nothing. */
  #flush(): void {
    if (this.#head === undefined || this.#over) return
    this.#writeHead()
    const held = this.#held
    this.#held = undefined
    if (held !== undefined) this.#write(held)
    else this.#exchange.response.flushHeaders()
  }

  /** Called a tick after the head came, outside of undici: nothing catches what is thrown here but this. */
  flush(): void {
    try {
      this.#flush()
    } catch (error) {
      this.#fail(error)
    }
  }

  #writeHead(): void {
    const { response, request } = this.#exchange
    const head = this.#head!
    this.#head = undefined
    response.sendDate = false
    if (!request.complete && this.#body !== null) head.push('connection', 'close')
    if (this.#statusMessage === undefined) response.writeHead(this.#status, head)
    else response.writeHead(this.#status, this.#statusMessage, head)
  }

  #write(chunk: Buffer): boolean {
    this.#exchange.responseBytes += chunk.length
    const { response } = this.#exchange
    if (response.write(chunk)) return true
    if (this.#rewriter === undefined) this.#pause(this.#controller!)
    response.once('drain', this.#onDrain)
    return false
  }

  readonly #onDrain = (): void => {
    if (this.#rewriter !== undefined) this.#rewriter.drained()
    else this.#resume()
  }

  #pause(controller: UpstreamController): void {
    this.#paused = true
    controller.pause()
  }

  #resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#controller?.resume()
  }

  #finish(): void {
    if (this.#over) return
    this.#leave()
    this.#connection.release()
    const { response } = this.#exchange
    if (this.#head === undefined) {
      response.end()
      return
    }
    // The whole answer is in hand: one write, and its true length where rewriting changed it.
    const held = this.#held
    if (this.#rewriter !== undefined) this.#head.push('content-length', `${held?.length ?? 0}`)
    this.#writeHead()
    this.#exchange.responseBytes += held?.length ?? 0
    if (held === undefined) response.end()
    else response.end(held)
  }

  #fail(error: unknown): void {
    if (this.#over) return
    this.#leave()
    this.#connection.drop(asError(error))
    this.#rewriter?.destroy()
    this.#exchange.body?.destroy()
    if (error instanceof ClientGone || this.#exchange.response.destroyed) return
    this.#exchange.fail(toGatewayError(error, this.#outbound.route.config))
  }

  readonly #onClientClose = (): void => {
    if (this.#over) return
    this.#leave()
    this.#connection.drop(new ClientGone())
    this.#rewriter?.destroy()
    this.#exchange.body?.destroy()
  }

  #leave(): void {
    this.#over = true
    const { response } = this.#exchange
    response.off('close', this.#onClientClose)
    response.off('drain', this.#onDrain)
  }

  /**
   * A 401 waits while the token source judges it, when the request could be sent again; otherwise the
   * source is told for the sake of the next request and the answer passes at once.
   */
  #onUnauthorized(): void {
    const { route } = this.#outbound
    const { body } = this.#exchange
    const challenges = valuesOf(this.#head!, 'www-authenticate')
    const verdict = route.tokens.rejected(this.#token, challenges)
    if (body !== undefined && !body.isKept) {
      this.#exchange.retry = 'unauthorized-not-replayable'
      void verdict // for the next request; it never rejects
      this.#beginAnswer()
      return
    }
    this.#judging = true
    void verdict.then(next => this.#judge(next)) // neither rejects
  }

  /** The verdict on a 401: send the request again with `next`, or let the answer pass. */
  async #judge(next: Token | null): Promise<void> {
    const { body } = this.#exchange
    const whole = next === null ? undefined : await body?.gather()
    this.#judging = false
    if (this.#over) return
    if (next !== null && (body === undefined || whole !== undefined)) {
      this.#exchange.retry = 'unauthorized-new-token'
      this.#replace(next, whole)
      return
    }
    this.#exchange.retry = next === null ? 'unauthorized-same-token' : 'unauthorized-not-replayable'
    this.#beginAnswer()
    for (const chunk of this.#waiting) this.#take(this.#controller!, chunk)
    if (this.#lost !== undefined) {
      // Its head is good; what is missing of its body must show.
      this.#flush()
      this.#fail(this.#lost)
      return
    }
    if (this.#ended) this.#end()
    else this.#resume()
  }

  /** Gives this attempt up and sends the request once more. */
  #replace(token: Token, body = this.#exchange.body?.replay): void {
    this.#leave()
    this.#connection.drop()
    new Attempt(this.#outbound, token, body ?? null, true).send()
  }

  /** A kept connection that the upstream closed just as we used it: nothing was processed (RFC 9112 9.3.1). */
  #mayRetry(error: Error): boolean {
    if (this.#exchange.attempts > 1 || this.#freshSocket || this.#status !== 0) return false
    const code = codeOf(error)
    if (code !== 'UND_ERR_SOCKET' && code !== 'ECONNRESET' && code !== 'EPIPE') return false
    if (!IDEMPOTENT.has(this.#outbound.method)) return false
    return this.#exchange.body === undefined || this.#exchange.body.replay !== undefined
  }
}

function flushLater(attempt: Attempt): void {
  attempt.flush()
}

/** What Node writes as a reason phrase (RFC 9112 section 4); it throws at anything else. */
function isReasonPhrase(text: string | undefined): boolean {
  return text !== undefined && /^[\t\x20-\x7e\x80-\xff]*$/.test(text)
}

/** 206 is a part of a body, 204 and 304 have none. */
function hasRewritableStatus(status: number): boolean {
  return status !== 204 && status !== 206 && status !== 304
}

function valuesOf(pairs: readonly string[], name: string): string[] {
  const values: string[] = []
  for (let i = 0; i < pairs.length; i += 2) {
    if (pairs[i]!.toLowerCase() === name) values.push(pairs[i + 1]!)
  }
  return values
}

function addCors(head: string[], origin: string): void {
  for (let i = head.length - 2; i >= 0; i -= 2) {
    if (head[i]!.toLowerCase().startsWith('access-control-')) head.splice(i, 2)
  }
  head.push(...Object.entries(corsHeaders(origin)).flat())
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string } | undefined)?.code
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EAI_FAIL',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'EHOSTDOWN',
])
const RESET = new Set([
  'UND_ERR_SOCKET',
  'ECONNRESET',
  'EPIPE',
  'ECONNABORTED',
  'UND_ERR_CLOSED',
  'UND_ERR_DESTROYED',
])

/** Node's and undici's error codes in our table. The library's own text stays in `cause`. */
function toGatewayError(error: unknown, config: RouteConfig): GatewayError {
  if (error instanceof GatewayError) return error
  const { host, hostname } = config.upstream
  const code = codeOf(error) ?? ''
  const cause = { cause: error }
  if (UNREACHABLE.has(code)) {
    return new GatewayError(
      'upstream_unreachable',
      code === 'ENOTFOUND' || code === 'EAI_AGAIN'
        ? `The name ${hostname} could not be resolved (${code}).`
        : `No connection to ${host} (${code}).`,
      'Check the upstream URL, the network and DNS; an account behind a private endpoint is reachable only from its network.',
      cause,
    )
  }
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT') {
    return new GatewayError(
      'upstream_timeout',
      `${host} did not take a connection within ${config.timeouts.connectMs} ms.`,
      'Check firewall and private endpoint rules, or raise `timeouts.connect` of this route.',
      cause,
    )
  }
  if (code === 'UND_ERR_HEADERS_TIMEOUT') {
    return new GatewayError(
      'upstream_timeout',
      `${host} sent no answer within ${config.timeouts.responseMs} ms.`,
      'Retry, or raise `timeouts.response` of this route.',
      cause,
    )
  }
  if (code === 'UND_ERR_BODY_TIMEOUT') {
    return new GatewayError(
      'upstream_timeout',
      `${host} was silent for ${config.timeouts.idleMs} ms in the middle of its answer.`,
      'Retry, or raise `timeouts.idle` of this route.',
      cause,
    )
  }
  if (RESET.has(code)) {
    return new GatewayError(
      'upstream_reset',
      `${host} closed the connection before its answer was complete (${code}).`,
      'Retry. A request that is not idempotent may have been carried out: look before you repeat it.',
      cause,
    )
  }
  if (
    /^(?:ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|EPROTO|HOSTNAME_MISMATCH|ERR_OSSL)/.test(code)
  ) {
    return new GatewayError(
      'upstream_tls',
      `The TLS connection to ${host} could not be trusted (${code}).`,
      'If a corporate proxy or a private CA signs this host, name its certificate with `outbound.caFile` or NODE_EXTRA_CA_CERTS. No token was sent.',
      cause,
    )
  }
  return new GatewayError(
    'upstream_protocol',
    `${host} broke the HTTP protocol${code === '' ? '' : ` (${code})`}.`,
    'Retry; if it stays, the upstream or something in front of it does not speak HTTP/1.1.',
    cause,
  )
}
