// Every error that has a code: the HTTP answers the gateway makes itself, and the failures that end a
// command. Codes and statuses are stable API; messages and remedies may improve.

/** HTTP status and title of each answer the gateway makes itself (RFC 9457 problem details). */
export const GATEWAY_ERRORS = {
  host_not_allowed: { status: 421, title: 'Host not allowed' },
  origin_not_allowed: { status: 403, title: 'Browser origin not allowed' },
  forwarded_not_allowed: { status: 403, title: 'Forwarded request not allowed' },
  client_key_required: { status: 401, title: 'Client key required' },
  bad_request_target: { status: 400, title: 'Bad request target' },
  path_refused: { status: 400, title: 'Path refused' },
  no_route: { status: 404, title: 'No route' },
  method_not_allowed: { status: 405, title: 'Method not allowed' },
  path_not_allowed: { status: 403, title: 'Path not allowed' },
  upgrade_not_allowed: { status: 426, title: 'Upgrade not allowed' },
  token_unavailable: { status: 503, title: 'No token for this route' },
  upstream_unreachable: { status: 502, title: 'Upstream unreachable' },
  upstream_tls: { status: 502, title: 'Upstream TLS failed' },
  upstream_reset: { status: 502, title: 'Upstream closed the connection' },
  upstream_protocol: { status: 502, title: 'Upstream broke the protocol' },
  upstream_timeout: { status: 504, title: 'Upstream timed out' },
  overloaded: { status: 503, title: 'Overloaded' },
  shutting_down: { status: 503, title: 'Shutting down' },
  body_too_large: { status: 413, title: 'Body too large' },
  headers_too_large: { status: 431, title: 'Headers too large' },
  loop_detected: { status: 508, title: 'Loop detected' },
} as const satisfies Record<string, { status: number; title: string }>

export type GatewayErrorCode = keyof typeof GATEWAY_ERRORS

export interface GatewayErrorOptions {
  /** Extra response headers, such as `allow` or `retry-after`. */
  readonly headers?: Readonly<Record<string, string>>
  readonly cause?: unknown
}

/** An answer the gateway makes itself. `detail` says what happened, `remedy` what to do next. */
export class GatewayError extends Error {
  readonly code: GatewayErrorCode
  readonly remedy: string
  readonly headers: Readonly<Record<string, string>>

  constructor(code: GatewayErrorCode, detail: string, remedy: string, options: GatewayErrorOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'GatewayError'
    this.code = code
    this.remedy = remedy
    this.headers = options.headers ?? {}
  }

  get status(): number {
    return GATEWAY_ERRORS[this.code].status
  }

  /** The body of the answer, `application/problem+json` (RFC 9457). */
  problem(requestId: string, route?: string): Record<string, unknown> {
    return {
      type: `urn:entra-proxy:error:${this.code}`,
      title: GATEWAY_ERRORS[this.code].title,
      status: this.status,
      code: this.code,
      ...(route === undefined ? {} : { route }),
      detail: this.message,
      remedy: this.remedy,
      requestId,
    }
  }
}

/** Exit codes of the program; the list `entra-proxy help` prints. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  notRunning: 3,
  noToken: 4,
  upstream: 5,
  addressInUse: 6,
  interrupted: 130,
  drainTimeout: 143,
} as const

export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** A failure that ends a command: printed as `entra-proxy: message` and `fix  remedy`, then exit. */
export class CommandError extends Error {
  readonly exitCode: ExitCode
  readonly remedy: string

  constructor(exitCode: ExitCode, message: string, remedy = '', options: { cause?: unknown } = {}) {
    super(message, options)
    this.name = 'CommandError'
    this.exitCode = exitCode
    this.remedy = remedy
  }
}
