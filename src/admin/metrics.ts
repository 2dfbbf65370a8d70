// The Prometheus series. Labels come from the configuration or from fixed sets, never from a request,
// and the children of the hot path are bound once per route.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { GatewayErrorCode } from '../errors.ts'
import type { Exchange } from '../proxy/exchange.ts'
import type { Route } from '../proxy/route.ts'

/** OpenTelemetry's advised bounds for HTTP durations, and three for long ML calls. Seconds. */
const DURATION_BUCKETS = [
  0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 180,
]
const OVERHEAD_BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1]

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
/** The route label of requests that were refused before they had one. */
const NO_ROUTE = '-'

const UPSTREAM_ERROR_KINDS: Partial<Record<GatewayErrorCode, string>> = {
  upstream_unreachable: 'connect',
  upstream_tls: 'tls',
  upstream_reset: 'reset',
  upstream_protocol: 'protocol',
  upstream_timeout: 'timeout',
}

/** What the token cache tells of an acquisition. */
export interface TokenRefresh {
  readonly scope: string
  readonly credential: string
  readonly result: 'success' | 'failure'
  readonly durationMs: number
}

export interface TokenGauge {
  readonly scope: string
  readonly credential: string
  /** Epoch milliseconds. */
  readonly expiresAt: number | undefined
  readonly lastRefreshAt: number | undefined
}

export interface MetricsSources {
  readonly version: string
  readonly nodeVersion: string
  readonly routes: () => readonly Route[]
  readonly tokens: () => readonly TokenGauge[]
  readonly inFlight: () => number
}

export interface Metrics {
  readonly contentType: string
  finished(exchange: Exchange): void
  /** A request that was refused before it was one. */
  refused(code: GatewayErrorCode): void
  tokenRefreshed(refresh: TokenRefresh): void
  reloaded(ok: boolean): void
  render(): Promise<string>
}

export function createMetrics(sources: MetricsSources): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  new Gauge({
    name: 'entra_proxy_build_info',
    help: 'Always 1; the labels say what is running.',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version: sources.version, node: sources.nodeVersion }, 1)
  const requests = new Counter({
    name: 'entra_proxy_http_requests_total',
    help: 'Requests answered, by who made the answer.',
    labelNames: ['route', 'method', 'code', 'source'],
    registers,
  })
  const duration = new Histogram({
    name: 'entra_proxy_http_request_duration_seconds',
    help: 'From the request head to the end of the answer.',
    labelNames: ['route', 'method', 'code_class'],
    buckets: DURATION_BUCKETS,
    registers,
  })
  const upstreamDuration = new Histogram({
    name: 'entra_proxy_upstream_request_duration_seconds',
    help: "From sending a request to the upstream's response head.",
    labelNames: ['route', 'code_class'],
    buckets: DURATION_BUCKETS,
    registers,
  })
  const overhead = new Histogram({
    name: 'entra_proxy_gateway_overhead_seconds',
    help: 'From the request head to sending it on: the time the gateway itself took, waiting for a token included.',
    labelNames: ['route'],
    buckets: OVERHEAD_BUCKETS,
    registers,
  })
  const requestBytes = new Counter({
    name: 'entra_proxy_http_request_bytes_total',
    help: 'Request body bytes taken from clients.',
    labelNames: ['route'],
    registers,
  })
  const responseBytes = new Counter({
    name: 'entra_proxy_http_response_bytes_total',
    help: 'Response body bytes given to clients.',
    labelNames: ['route'],
    registers,
  })
  const upstreamErrors = new Counter({
    name: 'entra_proxy_upstream_errors_total',
    help: 'Exchanges that failed at the upstream.',
    labelNames: ['route', 'kind'],
    registers,
  })
  const rejected = new Counter({
    name: 'entra_proxy_requests_rejected_total',
    help: 'Requests the gateway refused by itself, by error code.',
    labelNames: ['reason'],
    registers,
  })
  const disconnects = new Counter({
    name: 'entra_proxy_client_disconnects_total',
    help: 'Clients that left before their answer was complete.',
    labelNames: ['route'],
    registers,
  })
  const refreshes = new Counter({
    name: 'entra_proxy_token_refresh_total',
    help: 'Token acquisitions.',
    labelNames: ['scope', 'credential', 'result'],
    registers,
  })
  const refreshDuration = new Histogram({
    name: 'entra_proxy_token_refresh_duration_seconds',
    help: 'How long token acquisitions took.',
    labelNames: ['scope', 'credential'],
    buckets: DURATION_BUCKETS,
    registers,
  })
  const reloadOk = new Gauge({
    name: 'entra_proxy_config_last_reload_successful',
    help: '1 when the last configuration load was taken into use.',
    registers,
  })
  const reloads = new Counter({
    name: 'entra_proxy_config_reloads_total',
    help: 'Configuration reloads.',
    labelNames: ['result'],
    registers,
  })
  reloadOk.set(1)
  new Gauge({
    name: 'entra_proxy_http_requests_in_flight',
    help: 'Requests being answered now.',
    registers,
    collect() {
      this.set(sources.inFlight())
    },
  })
  new Gauge({
    name: 'entra_proxy_queue_length',
    help: 'Requests waiting for a place on their route.',
    labelNames: ['route'],
    registers,
    collect() {
      for (const route of sources.routes()) this.set({ route: route.name }, route.admission.queued)
    },
  })
  const tokenGauge = (name: string, help: string, pick: (token: TokenGauge) => number | undefined) =>
    new Gauge({
      name,
      help,
      labelNames: ['scope', 'credential'],
      registers,
      collect() {
        this.reset()
        for (const token of sources.tokens()) {
          const value = pick(token)
          if (value !== undefined)
            this.set({ scope: token.scope, credential: token.credential }, value / 1000)
        }
      },
    })
  tokenGauge(
    'entra_proxy_token_expiry_timestamp_seconds',
    'When the current token ends.',
    token => token.expiresAt,
  )
  tokenGauge(
    'entra_proxy_token_last_refresh_timestamp_seconds',
    'When the current token was acquired.',
    token => token.lastRefreshAt,
  )

  /** Per route name: the children every request needs, and those that depend on method and code. */
  const bound = new Map<string, ReturnType<typeof bind>>()
  function bind(route: string) {
    return {
      requestBytes: requestBytes.labels(route),
      responseBytes: responseBytes.labels(route),
      overhead: overhead.labels(route),
      upstream: new Map<string, ReturnType<typeof upstreamDuration.labels>>(),
      byOutcome: new Map<
        string,
        { count: ReturnType<typeof requests.labels>; time: ReturnType<typeof duration.labels> }
      >(),
    }
  }
  function ofRoute(route: string) {
    let children = bound.get(route)
    if (children === undefined) {
      children = bind(route)
      bound.set(route, children)
    }
    return children
  }

  return {
    contentType: registry.contentType,
    finished(exchange) {
      const route = exchange.route?.name ?? NO_ROUTE
      const children = ofRoute(route)
      const known = exchange.request.method ?? ''
      const method = METHODS.has(known) ? known : '_OTHER'
      const { status, source, errorCode } = exchange
      const codeClass = status === 0 ? '-' : `${Math.floor(status / 100)}xx`
      const outcome = `${method} ${status} ${source}`
      let child = children.byOutcome.get(outcome)
      if (child === undefined) {
        child = {
          count: requests.labels(route, method, String(status), source),
          time: duration.labels(route, method, codeClass),
        }
        children.byOutcome.set(outcome, child)
      }
      const totalMs = exchange.endedAt - exchange.startedAt
      child.count.inc()
      child.time.observe(totalMs / 1000)
      if (exchange.requestBytes > 0) children.requestBytes.inc(exchange.requestBytes)
      if (exchange.responseBytes > 0) children.responseBytes.inc(exchange.responseBytes)
      if (exchange.upstreamMs > 0) {
        let upstream = children.upstream.get(codeClass)
        if (upstream === undefined) {
          upstream = upstreamDuration.labels(route, codeClass)
          children.upstream.set(codeClass, upstream)
        }
        upstream.observe(exchange.upstreamMs / 1000)
        children.overhead.observe(exchange.overheadMs / 1000)
      }
      if (exchange.aborted) disconnects.inc({ route })
      const kind = errorCode && UPSTREAM_ERROR_KINDS[errorCode]
      if (kind !== undefined) upstreamErrors.inc({ route, kind })
      else if (exchange.cut) upstreamErrors.inc({ route, kind: 'cut' })
      else if (errorCode !== undefined) rejected.inc({ reason: errorCode })
    },
    refused: code => rejected.inc({ reason: code }),
    tokenRefreshed({ scope, credential, result, durationMs }) {
      refreshes.inc({ scope, credential, result })
      refreshDuration.observe({ scope, credential }, durationMs / 1000)
    },
    reloaded(ok) {
      reloadOk.set(ok ? 1 : 0)
      reloads.inc({ result: ok ? 'success' : 'failure' })
    },
    render: () => registry.metrics(),
  }
}
