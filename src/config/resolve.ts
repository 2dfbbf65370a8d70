// From the checked document to the configuration in force: units, addresses, presets, scopes. Whatever
// a schema cannot say is refused here, each with its place and with what to write instead.

import { resolve as resolvePath } from 'node:path'
import {
  formatListen,
  hasDotSegment,
  isLocalListen,
  isLoopbackHost,
  isSameListen,
  leadsTo,
  type Parsed,
  parseHost,
  parseListen,
  parseUpstream,
} from './address.ts'
import type { Config, CredentialConfig, ListenAddress, RouteConfig, Upstream } from './config.ts'
import { type CredentialSurroundings, resolveCredential } from './credential.ts'
import type { Environment, Setting } from './flags.ts'
import { resolveHeaderRules } from './header-rules.ts'
import type { ConfigPath, Report } from './problems.ts'
import type { ConfigDocument, RouteDocument } from './schema.ts'
import { resolveTokenTarget } from './scope.ts'
import { formatDuration, MAX_DURATION_MS, parseDuration, parseSize } from './units.ts'

export interface ResolveInput {
  readonly document: ConfigDocument
  /** Indices of routes that are not to be looked at: the schema already refused them. */
  readonly lostRoutes: ReadonlySet<number>
  /** What relative file names start from. */
  readonly directory: string
  readonly env: Environment
  readonly port: Setting<string | number> | undefined
  /** False when a value is only the default. */
  readonly isWritten: (path: ConfigPath) => boolean
  readonly report: Report
  /** A problem of a flag or variable itself, by its name. */
  readonly reportFlag: (from: string, message: string) => void
}

export type ResolvedConfig = Omit<Config, 'file' | 'requireToken' | 'warnings'>

/** The configuration in force. It may be used only if nothing was reported but warnings. */
export function resolveConfig(input: ResolveInput): ResolvedConfig {
  const { document, directory, env, report } = input
  const file = (name: string) => resolvePath(directory, name)
  const listen = resolveListen(input)
  const adminListen = resolveAdmin(document, report)
  const credential = resolveCredential(document.credential, ['credential'], { env, file, report })
  const routes = resolveRoutes(input, credential, { env, file, report })
  const placed = placedListeners(input, listen, routes, adminListen)
  checkListeners(placed, input)
  checkLoops(routes, placed, report)
  return {
    listen,
    routes: routes.map(({ route }) => route),
    token: {
      refreshBeforeMs: duration(document.token.refreshBefore, ['token', 'refreshBefore'], report),
      timeoutMs: duration(document.token.timeout, ['token', 'timeout'], report),
    },
    outbound: resolveOutbound(document, file, report),
    ...(document.tls && {
      tls: { certFile: file(document.tls.certFile), keyFile: file(document.tls.keyFile) },
    }),
    security: resolveSecurity(document, file, report),
    admin: { ...(adminListen && { listen: adminListen }), metrics: document.admin.metrics },
    log: document.log,
    shutdown: { graceMs: duration(document.shutdown.grace, ['shutdown', 'grace'], report) },
  }
}

function resolveListen({ document, port, report, reportFlag }: ResolveInput): ListenAddress[] {
  const isList = Array.isArray(document.listen)
  const texts = isList ? (document.listen as string[]) : [document.listen as string]
  const addresses = texts.flatMap((text, i) => {
    const address = accept(parseListen(text), isList ? ['listen', i] : ['listen'], report)
    return address === undefined ? [] : [address]
  })
  if (port === undefined) return addresses
  const number =
    typeof port.value === 'number' ? port.value : /^\d{1,5}$/.test(port.value) ? Number(port.value) : -1
  if (!Number.isInteger(number) || number < 0 || number > 65_535) {
    reportFlag(
      port.from,
      `${JSON.stringify(port.value)} is not a port; write 0 to 65535 (0 takes a free one)`,
    )
    return addresses
  }
  const first = addresses[0]
  if (first?.kind === 'unix') {
    reportFlag(
      port.from,
      `the first listener is a socket and has no port; write --listen localhost:${number}`,
    )
    return addresses
  }
  return first === undefined ? addresses : [{ ...first, port: number }, ...addresses.slice(1)]
}

function resolveAdmin({ admin }: ConfigDocument, report: Report): ListenAddress | undefined {
  if (admin.inspector === 'on') {
    report(
      ['admin', 'inspector'],
      'the inspector is not available in this version; write off, or remove it (--inspect likewise)',
    )
  }
  if (admin.listen === 'off') return undefined
  return accept(parseListen(admin.listen), ['admin', 'listen'], report)
}

interface PlacedRoute {
  readonly route: RouteConfig
  readonly at: ConfigPath
}

function resolveRoutes(
  { document, lostRoutes, report }: ResolveInput,
  credential: CredentialConfig,
  surroundings: CredentialSurroundings,
): PlacedRoute[] {
  const byPath = new Map<string, number>()
  const byName = new Map<string, number>()
  const routes: PlacedRoute[] = []
  for (const [i, route] of (document.routes ?? []).entries()) {
    if (lostRoutes.has(i)) continue
    const at: ConfigPath = ['routes', i]
    const pathProblem = refusePath(route.path)
    if (pathProblem !== undefined) report([...at, 'path'], pathProblem)
    const name = route.name ?? nameOfPath(route.path)
    const twin = byPath.get(route.path)
    const namesake = byName.get(name)
    if (twin !== undefined) {
      report([...at, 'path'], `routes[${twin}] has the path "${route.path}" too; give each route its own`)
    } else if (namesake !== undefined) {
      const made = route.name === undefined ? ', made from its path,' : ''
      report(
        [...at, 'name'],
        `the name "${name}"${made} is that of routes[${namesake}] too; write another name`,
      )
    }
    byPath.set(route.path, twin ?? i)
    byName.set(name, namesake ?? i)
    const resolved = resolveRoute(route, name, at, credential, surroundings)
    if (resolved !== undefined) routes.push({ route: resolved, at })
  }
  return routes
}

function resolveRoute(
  route: RouteDocument,
  name: string,
  at: ConfigPath,
  defaultCredential: CredentialConfig,
  surroundings: CredentialSurroundings,
): RouteConfig | undefined {
  const { report } = surroundings
  const upstream = resolveUpstream(route.upstream, [...at, 'upstream'], report)
  const listen = route.listen && accept(parseListen(route.listen), [...at, 'listen'], report)
  const target = upstream && resolveTokenTarget(route, upstream, at, report)
  const rules = {
    credential:
      route.credential === undefined
        ? defaultCredential
        : resolveCredential(route.credential, [...at, 'credential'], surroundings),
    requestHeaders: resolveHeaderRules(route.requestHeaders, 'request', [...at, 'requestHeaders'], report),
    responseHeaders: resolveHeaderRules(
      route.responseHeaders,
      'response',
      [...at, 'responseHeaders'],
      report,
    ),
    timeouts: resolveTimeouts(route, target?.preset.responseTimeoutMs ?? 0, [...at, 'timeouts'], report),
    limits: resolveLimits(route, [...at, 'limits'], report),
  }
  checkPatterns(route.paths ?? [], [...at, 'paths'], report)
  checkQuery(route.query, [...at, 'query'], report)
  if (route.websocket) {
    report([...at, 'websocket'], 'WebSocket is not available in this version; write false, or remove it')
  }
  if (upstream === undefined || target === undefined) return undefined
  return {
    name,
    path: route.path,
    ...(listen && { listen }),
    upstream,
    preset: target.presetName,
    scope: target.scope,
    ...(target.audience !== undefined && { audience: target.audience }),
    ...(route.methods && { methods: route.methods }),
    ...(route.paths && { paths: route.paths }),
    query: route.query,
    rewriteLinks: route.rewriteLinks ?? target.preset.rewriteLinks,
    trustUpstream: route.trustUpstream,
    ...rules,
  }
}

function resolveUpstream(text: string, at: ConfigPath, report: Report): Upstream | undefined {
  const upstream = accept(parseUpstream(text), at, report)
  if (upstream === undefined) return undefined
  if (upstream.origin.startsWith('http:') && !isLoopbackHost(upstream.hostname)) {
    report(
      at,
      `http would send the token to ${upstream.host} in clear; write https (http is for localhost, 127.0.0.0/8 and [::1] only)`,
    )
    return undefined
  }
  return upstream
}

// RFC 3986 pchar without percent-encoding, and without `*`, which people write for "everything below".
const ROUTE_PATH = /^(\/|(\/[A-Za-z0-9\-._~!$&'()+,;=:@]+)+)$/

function refusePath(path: string): string | undefined {
  if (!path.startsWith('/')) return `"${path}" does not begin with a slash; write "/${path}"`
  if (path.includes('*')) return `"${path}" has a wildcard; a path is a prefix already, write only that`
  if (hasDotSegment(path)) return `"${path}" has dot segments; write the path they lead to`
  if (path.includes('//')) return `"${path}" has an empty segment; write single slashes`
  if (path !== '/' && path.endsWith('/')) return `"${path}" ends in a slash; write "${path.slice(0, -1)}"`
  if (path.split('/')[1] === '~key') return '/~key is where clients present their key; choose another path'
  if (ROUTE_PATH.test(path)) return undefined
  return `"${path}" has characters that need escaping in a URL; use letters, digits, "-", "_", "." and "~"`
}

/** `/batch` → batch, `/a/b` → a-b, `/` → default; always a valid route name. */
function nameOfPath(path: string): string {
  const words = path.toLowerCase().replace(/[^a-z0-9]+/g, '-')
  const name = words.replace(/^-|-$/g, '')
  if (name === '') return 'default'
  return (/^[a-z]/.test(name) ? name : `r-${name}`).slice(0, 40).replace(/-$/, '')
}

function resolveTimeouts(route: RouteDocument, presetMs: number, at: ConfigPath, report: Report) {
  const { connect, response, idle } = route.timeouts
  return {
    connectMs: duration(connect, [...at, 'connect'], report),
    responseMs: response === undefined ? presetMs : duration(response, [...at, 'response'], report),
    idleMs: duration(idle, [...at, 'idle'], report),
  }
}

function resolveLimits({ limits }: RouteDocument, at: ConfigPath, report: Report) {
  const maxBodyBytes = parseSize(limits.maxBody) ?? 0
  if (maxBodyBytes <= 0 || !Number.isSafeInteger(maxBodyBytes)) {
    report([...at, 'maxBody'], `"${limits.maxBody}" is no usable size; write one from 1B to 8388607GiB`)
  }
  return {
    maxConcurrent: limits.maxConcurrent,
    maxQueue: limits.maxQueue,
    queueTimeoutMs: duration(limits.queueTimeout, [...at, 'queueTimeout'], report),
    maxBodyBytes,
  }
}

function checkPatterns(patterns: readonly string[], at: ConfigPath, report: Report): void {
  for (const [i, pattern] of patterns.entries()) {
    if (!pattern.startsWith('/')) {
      report([...at, i], `"${pattern}" does not begin with a slash; write "/${pattern}"`)
    } else if (hasDotSegment(pattern)) {
      report(
        [...at, i],
        `"${pattern}" has dot segments, which are never let through; write the path they lead to`,
      )
    } else if (!/^[!-~]+$/.test(pattern) || /[?#\\]/.test(pattern)) {
      report(
        [...at, i],
        `"${pattern}" is no path pattern; write a path as it is sent, with * for one segment and ** for any number`,
      )
    }
  }
}

function checkQuery(query: Readonly<Record<string, string>>, at: ConfigPath, report: Report): void {
  for (const [name, value] of Object.entries(query)) {
    if (name === '') report([...at, name], 'a parameter needs a name; write name: value', { atKey: true })
    if (!isEncodable(name) || !isEncodable(value)) {
      report([...at, name], 'has control characters or broken Unicode; write plain text')
    }
  }
}

/** No control characters, and nothing encodeURIComponent would throw on. */
function isEncodable(text: string): boolean {
  return !/[\x00-\x1f\x7f]/.test(text) && !/\p{Surrogate}/u.test(text)
}

function resolveOutbound({ outbound }: ConfigDocument, file: (name: string) => string, report: Report) {
  if (outbound.proxy !== undefined) {
    report(
      ['outbound', 'proxy'],
      'a corporate proxy is not available in this version; remove it and allow the way to the upstream and to Entra directly',
    )
  }
  return outbound.caFile === undefined ? {} : { caFile: file(outbound.caFile) }
}

function resolveSecurity({ security }: ConfigDocument, file: (name: string) => string, report: Report) {
  return {
    allowedHosts: security.allowedHosts.map((text, i) => {
      const [, name = '', port] = /^(\[[^\]]*\]|[^:]*)(:\d{1,5})?$/.exec(text) ?? []
      const host = name === '' ? undefined : parseHost(name)
      if (host !== undefined && 'value' in host) return host.value + (port ?? '')
      report(
        ['security', 'allowedHosts', i],
        `"${text}" is not a Host header value; write name or name:port, without scheme, path or wildcard`,
      )
      return text
    }),
    allowedOrigins: security.allowedOrigins.map((text, i) => {
      const origin = text.toLowerCase()
      if (!/^[a-z][a-z0-9+.-]*:\/\/[^\s/?#@*]+$/.test(origin)) {
        report(
          ['security', 'allowedOrigins', i],
          `"${text}" is not an origin; write scheme://host or scheme://host:port, without slash at the end or wildcard`,
        )
      }
      return origin
    }),
    forwardedRequests: security.forwardedRequests,
    ...(security.clientKey && { clientKey: { file: file(security.clientKey.file) } }),
    allowRemote: security.allowRemote,
  }
}

interface PlacedListener {
  readonly address: ListenAddress
  readonly at: ConfigPath
  /** For people: `the admin listener`. */
  readonly label: string
  readonly isAdmin: boolean
  /** The flag or variable its port came from. */
  readonly from?: string
}

function placedListeners(
  { document, port }: ResolveInput,
  listen: readonly ListenAddress[],
  routes: readonly PlacedRoute[],
  admin: ListenAddress | undefined,
): PlacedListener[] {
  const isList = Array.isArray(document.listen)
  return [
    ...listen.map((address, i) => ({
      address,
      at: isList ? ['listen', i] : ['listen'],
      label: 'the gateway',
      isAdmin: false,
      ...(i === 0 && port !== undefined && { from: port.from }),
    })),
    ...routes.flatMap(({ route, at }) =>
      route.listen === undefined
        ? []
        : [{ address: route.listen, at: [...at, 'listen'], label: `route ${route.name}`, isAdmin: false }],
    ),
    ...(admin === undefined
      ? []
      : [{ address: admin, at: ['admin', 'listen'], label: 'the admin listener', isAdmin: true }]),
  ]
}

function checkListeners(
  listeners: readonly PlacedListener[],
  { document: { security }, isWritten, report, reportFlag }: ResolveInput,
): void {
  for (const [i, listener] of listeners.entries()) {
    const { address, at, isAdmin } = listener
    const twin = listeners.slice(0, i).find(other => isSameListen(other.address, address))
    if (twin !== undefined) {
      // Said where it can be changed: not at a default nobody wrote.
      const isNamed = ({ at, from }: PlacedListener) => from !== undefined || isWritten(at)
      const [place, other] = isNamed(listener) || !isNamed(twin) ? [listener, twin] : [twin, listener]
      const message = `${other.label} listens on ${formatListen(other.address)} already; choose another port`
      if (place.from !== undefined) reportFlag(place.from, message)
      else report(place.at, message)
    }
    if (isAdmin || isLocalListen(address) || (security.allowRemote && security.clientKey)) continue
    const missing = [
      ...(security.allowRemote ? [] : ['security.allowRemote: true']),
      ...(security.clientKey ? [] : ['security.clientKey: { file: … }']),
    ]
    report(
      at,
      `other machines could reach ${formatListen(address)} and use this identity; listen on localhost, or also set ${missing.join(' and ')}`,
    )
  }
}

function checkLoops(
  routes: readonly PlacedRoute[],
  listeners: readonly PlacedListener[],
  report: Report,
): void {
  for (const { route, at } of routes) {
    const own = listeners.find(({ address }) => leadsTo(route.upstream, address))
    if (own === undefined) continue
    report(
      [...at, 'upstream'],
      `${route.upstream.origin} is this gateway itself (${own.label}), requests would go round in circles; write the service's own address`,
    )
  }
}

function duration(text: string, at: ConfigPath, report: Report): number {
  const ms = parseDuration(text) ?? 0
  if (ms <= 0) report(at, `"${text}" is no time at all; write at least 1ms`)
  if (ms > MAX_DURATION_MS) {
    report(
      at,
      `"${text}" is more than a timer can wait; write at most ${formatDuration(MAX_DURATION_MS - (MAX_DURATION_MS % 3_600_000))}`,
    )
  }
  return ms
}

function accept<T>(parsed: Parsed<T>, at: ConfigPath, report: Report): T | undefined {
  if ('value' in parsed) return parsed.value
  report(at, parsed.problem)
  return undefined
}
