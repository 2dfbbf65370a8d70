// A running gateway, put together from a configuration: credentials and token cache, routes, guard,
// handler, listeners, admin. Starts, reloads, drains, closes.

import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls'
import type { RouteHealth } from './admin/health.ts'
import { createMetrics, type Metrics } from './admin/metrics.ts'
import { type AdminServer, openAdmin } from './admin/server.ts'
import type { Credential } from './auth/credential.ts'
import { createCredential } from './auth/credentials.ts'
import { TokenFailure } from './auth/failures.ts'
import { TokenCache, type TokenEvent, type TokenState } from './auth/token-cache.ts'
import type { Clock } from './clock.ts'
import { formatListen } from './config/address.ts'
import type { Config, CredentialConfig, RouteConfig } from './config/config.ts'
import type { Environment } from './config/flags.ts'
import { CommandError, EXIT, type GatewayError } from './errors.ts'
import { createGuard } from './guard.ts'
import { type Listener, openListener } from './listener.ts'
import type { AccessWriter, Logger } from './logger.ts'
import { Admission } from './proxy/admission.ts'
import { UpstreamPool } from './proxy/connections.ts'
import type { Exchange } from './proxy/exchange.ts'
import { createHandler } from './proxy/handler.ts'
import { compileHeaderPolicy } from './proxy/headers.ts'
import { LinkMap } from './proxy/links.ts'
import { compileDefaultQuery, compilePermits, type Route, RouteTable } from './proxy/route.ts'

/** Scopes with a token of their own; beyond this the least recently used one is forgotten. */
const MAX_TOKENS = 1_000

export interface GatewayOptions {
  readonly config: Config
  readonly env: Environment
  readonly clock: Clock
  readonly log: Logger
  readonly access: AccessWriter
  readonly version: string
  readonly nodeVersion: string
  /** A banner follows that shows the first tokens: they need no log lines of their own. */
  readonly startQuietly?: boolean
  /** Certificate authorities (PEM) trusted besides the system's and `outbound.caFile`. */
  readonly extraCa?: readonly string[]
}

export interface Gateway {
  readonly config: Config
  /** The main listener first, then the routes' own ports. */
  readonly listeners: readonly Listener[]
  /** URL of the main listener. */
  readonly url: string
  /** Route name to the URL of its own port. */
  readonly ownPorts: ReadonlyMap<string, string>
  readonly admin: AdminServer | undefined
  /** Resolves when the first token attempt of every route has ended, well or badly. */
  readonly firstTokens: Promise<void>
  tokenState(routeName: string): TokenState | undefined
  /** Requests being answered now. */
  inFlight(): number
  /** Puts another configuration into use; listeners and limits of the process stay. Running requests keep the old one. */
  reload(config: Config): void
  /** Notes for the metrics that a reload was refused. */
  reloadRefused(): void
  /** Stops accepting and finishes what is in flight. False when `graceMs` ran out and requests were cut. */
  drain(graceMs: number): Promise<boolean>
  /** Cuts everything. */
  close(): Promise<void>
}

/** Throws a CommandError when a listener, a key file or a certificate file is not usable. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { env, clock, log, access } = options
  let { config } = options
  let draining = false
  /** What is still open is being cut. */
  let closing = false
  /** Called whenever nothing is in flight any more. */
  let becameIdle = () => {}
  let inFlight = 0
  let started = false

  const via = `1.1 entra-proxy-${randomBytes(6).toString('hex')}`
  const trust = createTrust(config, env, options.extraCa ?? [])
  const credentials = new Map<string, Credential>()
  const metrics: Metrics = createMetrics({
    version: options.version,
    nodeVersion: options.nodeVersion,
    routes: () => table.routes,
    tokens: () =>
      tokens.snapshot().map(({ scope, credential, expiresAt, lastRefreshAt }) => ({
        scope,
        credential,
        expiresAt,
        lastRefreshAt,
      })),
    inFlight: () => inFlight,
  })
  const tokens = new TokenCache({
    clock,
    ...config.token,
    maxEntries: MAX_TOKENS,
    onEvent: event => {
      if (started || !options.startQuietly) logTokenEvent(log, event, clock.now())
      if (event.type === 'warned') return
      metrics.tokenRefreshed({
        scope: event.scope,
        credential: event.credential,
        result: event.type === 'acquired' ? 'success' : 'failure',
        durationMs: event.durationMs,
      })
    },
  })
  let sources = new Map<string, ReturnType<TokenCache['source']>>()
  let table = buildTable(config)

  function credentialOf(settings: CredentialConfig): Credential {
    const key = JSON.stringify(settings)
    let credential = credentials.get(key)
    if (credential === undefined) {
      credential = makeCredential(settings, {
        env,
        clock,
        readFile: path => readFile(path, 'utf8'),
        ca: trust.pem,
      })
      credentials.set(key, credential)
    }
    return credential
  }

  function buildTable(next: Config): RouteTable {
    const links = new LinkMap(next.routes)
    const nextSources = new Map<string, ReturnType<TokenCache['source']>>()
    const routes = next.routes.map((route): Route => {
      const source = tokens.source(credentialOf(route.credential), route.scope, {
        audience: route.audience,
        route: route.name,
      })
      nextSources.set(route.name, source)
      return {
        name: route.name,
        config: route,
        tokens: source,
        pool: new UpstreamPool(route, route.upstream.origin.startsWith('https:') ? trust.context : undefined),
        admission: new Admission(route.limits),
        headers: compileHeaderPolicy(route, leadsHome(route) ? via : undefined),
        links:
          route.rewriteLinks === 'none' ? undefined : { links, json: route.rewriteLinks === 'headers+json' },
        permits: compilePermits(route),
        defaultQuery: compileDefaultQuery(route.query),
      }
    })
    sources = nextSources
    tokens.retain(nextSources.values())
    return new RouteTable(routes)
  }

  const { clientKey, allowedHosts, allowedOrigins, forwardedRequests } = config.security
  const guard = createGuard({
    allowedHosts,
    allowedOrigins,
    forwardedRequests,
    ...(clientKey && { clientKey: readKey(clientKey.file) }),
    via,
  })
  const listeners: Listener[] = []
  const handle = createHandler({
    guard,
    table: () => table,
    main: () => listeners[0]!.facts,
    begun: () => {
      inFlight++
    },
    observe: (exchange: Exchange) => {
      inFlight--
      if (closing && !exchange.response.writableFinished) {
        exchange.errorCode = 'shutting_down'
        exchange.aborted = false
        exchange.cut = true
      }
      metrics.finished(exchange)
      access(exchange)
      if (inFlight === 0) becameIdle()
      if (exchange.bug !== undefined) log.error({ reqId: exchange.id, err: exchange.bug }, 'internal error')
    },
  })

  const ownPorts = new Map<string, string>()
  const tls = config.tls && { cert: readTls(config.tls.certFile), key: readTls(config.tls.keyFile) }
  let admin: AdminServer | undefined
  async function closeAll(): Promise<void> {
    closing = true
    tokens.close()
    for (const listener of listeners) listener.destroy()
    for (const route of table.routes) route.pool.close()
    await Promise.all([...listeners.map(listener => listener.close()), admin?.close()])
  }

  try {
    const refused = (error: GatewayError) => {
      metrics.refused(error.code)
      log.warn(
        { code: error.code, detail: error.message, remedy: error.remedy },
        'refused before it was a request',
      )
    }
    const base = { serve: handle, refused, ...(tls && { tls }) }
    for (const address of config.listen) listeners.push(await openListener({ ...base, address }))
    for (const route of config.routes) {
      if (route.listen === undefined) continue
      const own = await openListener({ ...base, address: route.listen, routeName: route.name })
      listeners.push(own)
      ownPorts.set(route.name, own.url)
    }
    if (config.admin.listen?.kind === 'tcp') {
      admin = await openAdmin({
        listen: config.admin.listen,
        metrics: config.admin.metrics ? metrics : undefined,
        now: () => clock.now(),
        health: {
          started: () => started,
          draining: () => draining,
          routes: () => config.routes.map(route => routeHealth(route, sources.get(route.name)?.state())),
        },
      })
    }
  } catch (error) {
    await closeAll()
    throw error
  }

  const firstTokens = Promise.all([...sources.values()].map(source => source.prefetch())).then(() => {
    started = true
  })

  return {
    get config() {
      return config
    },
    listeners,
    url: listeners[0]!.url,
    ownPorts,
    admin,
    firstTokens,
    tokenState: name => sources.get(name)?.state(),
    inFlight: () => inFlight,
    reload(next) {
      warnOfFixedSettings(log, config, next)
      const old = table
      table = buildTable(next)
      config = next
      metrics.reloaded(true)
      for (const source of sources.values()) void source.prefetch() // never rejects
      // Requests on the old routes finish on their own connections.
      for (const route of old.routes) route.pool.retire()
      log.info({ routes: next.routes.map(route => route.name) }, 'configuration reloaded')
    },
    reloadRefused: () => metrics.reloaded(false),
    async drain(graceMs) {
      draining = true
      // Connections that are idle, or never spoke, are not waited for: requests are.
      for (const listener of listeners) void listener.close().catch(() => {})
      const idle = new Promise<true>(resolve => {
        becameIdle = () => resolve(true)
        if (inFlight === 0) resolve(true)
      })
      const timeUp = new Promise<false>(resolve => {
        clock.after(graceMs, () => resolve(false))
      })
      const finished = await Promise.race([idle, timeUp])
      await closeAll()
      return finished
    },
    close: closeAll,
  }
}

/** A credential that can never work as it is set up ends the start. */
function makeCredential(...args: Parameters<typeof createCredential>): Credential {
  try {
    return createCredential(...args)
  } catch (error) {
    if (!(error instanceof TokenFailure)) throw error
    throw new CommandError(EXIT.usage, error.message, error.remedy)
  }
}

/** A loop can only come from an upstream on this machine; Azure need not see our `Via`. */
function leadsHome(route: RouteConfig): boolean {
  const { hostname } = route.upstream
  return hostname === 'localhost' || hostname === '::1' || hostname === '[::1]' || hostname.startsWith('127.')
}

interface Trust {
  /** Undefined: Node's own defaults hold. */
  readonly context: SecureContext | undefined
  readonly pem: readonly string[] | undefined
}

/**
 * The certificate authorities for upstreams and the token endpoint alike. A list of our own replaces
 * Node's, so what NODE_EXTRA_CA_CERTS names is added again.
 */
function createTrust(config: Config, env: Environment, extra: readonly string[]): Trust {
  const own = [...extra]
  if (config.outbound.caFile !== undefined) own.push(readCa('outbound.caFile', config.outbound.caFile))
  if (own.length === 0) return { context: undefined, pem: undefined }
  const extraFile = env['NODE_EXTRA_CA_CERTS']
  if (extraFile) own.push(readCa('NODE_EXTRA_CA_CERTS', extraFile))
  try {
    // Parsed once, not per connection.
    return { context: createSecureContext({ ca: [...rootCertificates, ...own] }), pem: own }
  } catch (error) {
    throw new CommandError(
      EXIT.usage,
      `the certificates to trust cannot be read: ${(error as Error).message}`,
      'Give PEM files (-----BEGIN CERTIFICATE-----) in outbound.caFile and NODE_EXTRA_CA_CERTS.',
    )
  }
}

function readText(path: string): string {
  return readFileSync(path, 'utf8')
}

function readCa(setting: string, path: string): string {
  return readSetting(setting, path, 'Name a PEM file of certificates that this user may read.')
}

function readTls(path: string): string {
  return readSetting('tls', path, 'Name PEM files in tls.certFile and tls.keyFile that this user may read.')
}

function readKey(path: string): string {
  const key = readSetting('security.clientKey.file', path, 'Name a file that holds the key.').trim()
  if (key.length >= 16) return key
  throw new CommandError(
    EXIT.usage,
    `the client key in ${path} is shorter than 16 characters`,
    `Make one: openssl rand -hex 32 > ${path}`,
  )
}

function readSetting(setting: string, path: string, remedy: string): string {
  try {
    return readText(path)
  } catch (error) {
    throw new CommandError(
      EXIT.usage,
      `${setting}: cannot read ${path} (${(error as NodeJS.ErrnoException).code})`,
      remedy,
      { cause: error },
    )
  }
}

function routeHealth(route: RouteConfig, state: TokenState | undefined): RouteHealth {
  return {
    route: route.name,
    scope: route.scope,
    usable: state?.usable ?? false,
    expiresAt: state?.expiresAt,
    lastError: state?.lastError,
  }
}

function logTokenEvent(log: Logger, event: TokenEvent, now: number): void {
  const { routes, scope, credential, label } = event
  const named = { route: routes, scope, credential, identity: label }
  if (event.type === 'warned') {
    log.warn({ ...named, code: event.code }, event.message)
    return
  }
  const durationMs = Math.round(event.durationMs)
  if (event.type === 'acquired') {
    const expiresInS = Math.round((event.expiresAt - now) / 1000)
    log.info({ ...named, expiresInS, durationMs, reason: event.reason }, 'token acquired')
    return
  }
  const { failure, retryInMs, serving, failures } = event
  // The first of a row, and then one now and then: it may go on for hours.
  log[failures % 10 === 1 ? 'warn' : 'debug'](
    {
      ...named,
      durationMs,
      kind: failure.kind,
      code: failure.code,
      aadsts: failure.aadsts,
      detail: failure.message,
      remedy: failure.remedy,
      correlationId: failure.correlationId,
      retryInMs: Math.round(retryInMs),
      servingCurrentToken: serving,
    },
    'token not acquired',
  )
}

/** Half-applied settings would mislead: what a reload does not change is said. */
function warnOfFixedSettings(log: Logger, old: Config, next: Config): void {
  const fixed = (config: Config) => ({
    listen: config.listen.map(formatListen),
    'routes[].listen': config.routes.flatMap(({ name, listen }) =>
      listen ? [`${name} ${formatListen(listen)}`] : [],
    ),
    tls: config.tls,
    security: config.security,
    admin: config.admin,
    token: config.token,
    outbound: config.outbound,
    log: config.log,
  })
  const before = fixed(old)
  for (const [setting, value] of Object.entries(fixed(next))) {
    if (JSON.stringify(value) === JSON.stringify(before[setting as keyof typeof before])) continue
    log.warn({ setting }, 'this setting changes at the next start only')
  }
}
