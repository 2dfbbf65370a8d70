// Whether the gateway is alive, started, ready: three questions with three answers. None of them asks
// an upstream, and liveness does not ask Entra either: a restart would only empty the token cache.

/** One route's token, as far as people may see it. */
export interface RouteHealth {
  readonly route: string
  readonly scope: string
  readonly usable: boolean
  /** Epoch milliseconds. */
  readonly expiresAt: number | undefined
  readonly lastError: { readonly detail: string; readonly remedy: string } | undefined
}

export interface Health {
  /** Listeners are up and the first token attempt of each route has finished. */
  readonly started: () => boolean
  readonly draining: () => boolean
  readonly routes: () => readonly RouteHealth[]
}

export interface HealthAnswer {
  readonly status: 200 | 503
  readonly body: string
}

export function answerLive(): HealthAnswer {
  return { status: 200, body: 'ok\n' }
}

export function answerStarted(health: Health): HealthAnswer {
  return health.started() ? { status: 200, body: 'ok\n' } : { status: 503, body: 'starting\n' }
}

/** Ready: every route has a usable token and the gateway is not draining. `verbose` adds a line per route. */
export function answerReady(health: Health, verbose: boolean, now: number): HealthAnswer {
  const routes = health.routes()
  const draining = health.draining()
  const ready = !draining && routes.every(route => route.usable)
  const lines = [ready ? 'ok' : draining ? 'draining' : 'not ready']
  if (verbose) {
    for (const route of routes) {
      const left = route.expiresAt === undefined ? undefined : Math.round((route.expiresAt - now) / 1000)
      const state = route.usable
        ? `token for ${route.scope} expires in ${left} s`
        : `no token for ${route.scope}`
      lines.push(`${route.usable ? '+' : '-'} ${route.route}  ${state}`)
      if (route.lastError)
        lines.push(`    last error: ${route.lastError.detail}  fix: ${route.lastError.remedy}`)
    }
  }
  return { status: ready ? 200 : 503, body: `${lines.join('\n')}\n` }
}
