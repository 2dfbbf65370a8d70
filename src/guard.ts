// Who may call. Every request passes here before any route is looked at: Host, browser headers,
// forwarding headers, request-target form, client key. A credential is behind this door.

import { createHash, timingSafeEqual } from 'node:crypto'
import type { Config } from './config/config.ts'
import { GatewayError } from './errors.ts'
import type { ListenerFacts } from './listener.ts'
import { corsHeaders, type Exchange } from './proxy/exchange.ts'

/** More header lines than this are refused, on every Node version alike. */
const MAX_HEADER_LINES = 100

const LOCAL_HOSTS = ['localhost', '127.0.0.1', '[::1]']
const DEFAULT_PORT = { http: 80, https: 443 } as const
const KEY_HEADER = 'x-entra-proxy-key'

export interface GuardOptions
  extends Pick<Config['security'], 'allowedHosts' | 'allowedOrigins' | 'forwardedRequests'> {
  /** The key callers must present; undefined when none is configured. */
  readonly clientKey?: string
  /** Our own entry in a `Via` header; a request that carries it has been here before. */
  readonly via: string
}

export interface Guard {
  /**
   * Admits the exchange or throws a GatewayError. Sets the exchange's `url` (origin form, key removed),
   * `host` and `corsOrigin`. Returns true when the exchange was answered here (a CORS preflight).
   */
  admit(exchange: Exchange, at: ListenerFacts): boolean
}

export function createGuard(options: GuardOptions): Guard {
  const hostsByListener = new WeakMap<ListenerFacts, ReadonlySet<string>>()
  const origins = new Set(options.allowedOrigins.map(origin => origin.toLowerCase()))
  const key = options.clientKey === undefined ? undefined : digest(options.clientKey)

  function allowedHosts(at: ListenerFacts): ReadonlySet<string> {
    let hosts = hostsByListener.get(at)
    if (hosts === undefined) {
      hosts = listHosts(at, options.allowedHosts)
      hostsByListener.set(at, hosts)
    }
    return hosts
  }

  return {
    admit(exchange, at) {
      const { request } = exchange
      const seen = readHeaders(request.rawHeaders)
      checkHost(seen, allowedHosts(at), at, exchange.url)
      exchange.host = seen.host!
      exchange.corsOrigin = checkBrowser(seen, origins)
      checkForwarding(seen, options)
      exchange.url = checkTarget(exchange.url, request.method ?? '', seen.host!)
      if (seen.upgrade !== undefined && /\bwebsocket\b/i.test(seen.upgrade)) {
        throw new GatewayError(
          'upgrade_not_allowed',
          'This route does not take WebSocket connections.',
          'Use plain HTTP requests or server-sent events.',
          { headers: { upgrade: 'HTTP/1.1', connection: 'upgrade, close' } },
        )
      }
      // A preflight never carries credentials (Fetch standard), so it comes before the key.
      if (exchange.corsOrigin !== undefined && answersPreflight(exchange)) return true
      if (key !== undefined) exchange.url = checkKey(exchange, seen, key)
      return false
    },
  }
}

interface SeenHeaders {
  hosts: number
  host: string | undefined
  origin: string | undefined
  fetchSite: boolean
  forwarding: string | undefined
  via: string | undefined
  upgrade: string | undefined
  key: string | undefined
  authorization: string | undefined
}

/** One pass over the raw list: `request.headers` hides repeats. */
function readHeaders(raw: readonly string[]): SeenHeaders {
  if (raw.length > MAX_HEADER_LINES * 2) {
    throw new GatewayError(
      'headers_too_large',
      `The request has more than ${MAX_HEADER_LINES} header lines.`,
      'Send fewer headers.',
    )
  }
  const seen: SeenHeaders = {
    hosts: 0,
    host: undefined,
    origin: undefined,
    fetchSite: false,
    forwarding: undefined,
    via: undefined,
    upgrade: undefined,
    key: undefined,
    authorization: undefined,
  }
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase()
    switch (name) {
      case 'host':
        seen.hosts++
        seen.host = raw[i + 1]!.toLowerCase()
        break
      case 'origin':
        // Two origins can only be an attempt to have one of them read.
        seen.origin = seen.origin === undefined ? raw[i + 1]! : `${seen.origin} ${raw[i + 1]}`
        break
      case 'sec-fetch-site':
        seen.fetchSite = true
        break
      case 'via':
        seen.via = seen.via === undefined ? raw[i + 1]! : `${seen.via}, ${raw[i + 1]}`
        seen.forwarding = 'Via'
        break
      case 'forwarded':
        seen.forwarding = 'Forwarded'
        break
      case 'upgrade':
        seen.upgrade = raw[i + 1]!
        break
      case KEY_HEADER:
        seen.key = raw[i + 1]!
        break
      case 'authorization':
        seen.authorization = raw[i + 1]!
        break
      default:
        if (name.charCodeAt(0) === 0x78 && name.startsWith('x-forwarded-')) seen.forwarding = raw[i]!
    }
  }
  return seen
}

function checkHost(seen: SeenHeaders, allowed: ReadonlySet<string>, at: ListenerFacts, url: string): void {
  if (seen.hosts !== 1) {
    throw new GatewayError(
      'bad_request_target',
      seen.hosts === 0 ? 'The request has no Host header.' : 'The request has more than one Host header.',
      'Send exactly one Host header (RFC 9112 section 3.2).',
    )
  }
  if (allowed.has(seen.host!)) return
  if (/^https?:\/\//i.test(url)) throw notAForwardProxy()
  throw new GatewayError(
    'host_not_allowed',
    `Host ${JSON.stringify(seen.host!.slice(0, 100))} is not a name of this gateway${at.port === 0 ? '' : ` on port ${at.port}`}.`,
    'Call it as localhost or 127.0.0.1 with its own port, or add this host to `security.allowedHosts` if the name is really yours. (A foreign name here is how a web page attacks local services: DNS rebinding.)',
    { headers: { connection: 'close' } },
  )
}

function listHosts(at: ListenerFacts, configured: readonly string[]): Set<string> {
  const hosts = new Set<string>()
  for (const host of [...LOCAL_HOSTS, ...configured]) {
    const hasPort = /:\d+$/.test(host)
    if (hasPort || at.kind === 'unix') hosts.add(host)
    if (hasPort || at.port === 0) continue
    hosts.add(`${host}:${at.port}`)
    if (at.port === DEFAULT_PORT[at.scheme]) hosts.add(host)
  }
  return hosts
}

/** Returns the allowed origin. `sec-fetch-mode` alone is not a browser: Node's own fetch sends it. */
function checkBrowser(seen: SeenHeaders, origins: ReadonlySet<string>): string | undefined {
  if (seen.origin !== undefined && origins.has(seen.origin.toLowerCase())) return seen.origin
  if (seen.origin === undefined && !seen.fetchSite) return undefined
  throw new GatewayError(
    'origin_not_allowed',
    seen.origin === undefined
      ? 'The request comes from a web browser.'
      : `The request comes from a web page of ${JSON.stringify(seen.origin.slice(0, 100))}.`,
    'Call the gateway from a program. If this page is yours and may act with your identity, add its origin to `security.allowedOrigins`.',
  )
}

function checkForwarding(
  seen: SeenHeaders,
  { forwardedRequests, via }: Pick<GuardOptions, 'forwardedRequests' | 'via'>,
): void {
  if (seen.via?.includes(via)) {
    throw new GatewayError(
      'loop_detected',
      'This request has already passed through this gateway.',
      'Point the route at the real upstream: it leads back to the gateway itself.',
    )
  }
  if (seen.forwarding === undefined || forwardedRequests === 'strip') return
  throw new GatewayError(
    'forwarded_not_allowed',
    `The request carries ${seen.forwarding}: it came through another proxy.`,
    'Call the gateway directly. If the proxy in front is yours (a service mesh), set `security.forwardedRequests: strip`.',
  )
}

/** The target in origin form. RFC 9112 section 3.2: absolute form is taken when it names us. */
function checkTarget(url: string, method: string, host: string): string {
  if (method === 'TRACE') {
    throw new GatewayError(
      'method_not_allowed',
      'TRACE is not served: it would show the token.',
      'Use another method.',
      { headers: { allow: 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS' } },
    )
  }
  if (url.charCodeAt(0) === 0x2f) return url
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/is.exec(url)
  if (absolute === null) {
    throw new GatewayError(
      'bad_request_target',
      url === '*' ? 'The request-target "*" is not served.' : 'The request-target is not a path.',
      'Send the path only, as in `GET /jobs HTTP/1.1`.',
    )
  }
  if (absolute[1]!.toLowerCase() !== host) {
    throw notAForwardProxy()
  }
  const rest = absolute[2]!
  return rest.charCodeAt(0) === 0x2f ? rest : `/${rest}`
}

function notAForwardProxy(): GatewayError {
  return new GatewayError(
    'host_not_allowed',
    'The request-target names another host: the gateway is not a forward proxy.',
    'Use the gateway as the base URL instead of as HTTP_PROXY.',
    { headers: { connection: 'close' } },
  )
}

function answersPreflight({ request, response, corsOrigin, id }: Exchange): boolean {
  const method = request.headers['access-control-request-method']
  if (request.method !== 'OPTIONS' || method === undefined) return false
  const headers = request.headers['access-control-request-headers']
  response.writeHead(204, {
    ...corsHeaders(corsOrigin!),
    'access-control-allow-methods': method,
    ...(headers === undefined ? {} : { 'access-control-allow-headers': headers }),
    'access-control-max-age': '600',
    'x-entra-proxy-request-id': id,
  })
  response.end()
  return true
}

/**
 * Returns the URL without the key. Three ways to present it: a header of its own, Authorization
 * (Bearer, or Basic with the key as user or password), or a path prefix `/~key/` for tools that can
 * change nothing but a URL.
 */
function checkKey(exchange: Exchange, seen: SeenHeaders, key: Buffer): string {
  const { url } = exchange
  const inPath = /^\/~([^/?]*)(.*)$/s.exec(url)
  if (inPath !== null && timingSafeEqual(digest(inPath[1]!), key)) {
    exchange.keyPrefix = `/~${inPath[1]}`
    const rest = inPath[2]!
    return rest.charCodeAt(0) === 0x2f ? rest : `/${rest}`
  }
  for (const candidate of presentedKeys(seen)) {
    if (timingSafeEqual(digest(candidate), key)) return url
  }
  throw new GatewayError(
    'client_key_required',
    'The request does not carry the client key of this gateway.',
    `Send it as \`${KEY_HEADER}: KEY\`, as \`Authorization: Bearer KEY\`, or as a path prefix /~KEY/; it is in the file that \`security.clientKey\` names.`,
    { headers: { 'www-authenticate': 'Bearer realm="entra-proxy"' } },
  )
}

function presentedKeys(seen: SeenHeaders): string[] {
  const keys = seen.key === undefined ? [] : [seen.key]
  const [scheme, value] = (seen.authorization ?? '').split(' ', 2)
  if (value === undefined) return keys
  if (/^bearer$/i.test(scheme!)) keys.push(value)
  if (/^basic$/i.test(scheme!)) {
    const pair = Buffer.from(value, 'base64').toString()
    const colon = pair.indexOf(':')
    if (colon >= 0) keys.push(pair.slice(0, colon), pair.slice(colon + 1))
  }
  return keys
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
