// What a person reads when the gateway is ready: what maps to what, acting as whom, until when, and a
// line to try.

import { formatListen, formatUpstream } from '../config/address.ts'
import type { Config, RouteConfig } from '../config/config.ts'
import type { Gateway } from '../gateway.ts'
import { clockTime } from '../logger.ts'

const NAME_WIDTH = 13

export interface BannerFacts {
  readonly readyMs: number
  readonly version: string
  readonly configSource: string
  /** Epoch milliseconds. */
  readonly now: number
}

export function readyBanner(gateway: Gateway, facts: BannerFacts): string[] {
  const { readyMs, version, configSource, now } = facts
  const { config } = gateway
  const rows = (name: string, values: readonly string[]) =>
    values.map((value, index) => `  ${(index === 0 ? name : '').padEnd(NAME_WIDTH)}${value}`)
  return [
    '',
    `  entra-proxy ${version}  ready in ${(readyMs / 1000).toFixed(1)} s  (Ctrl-C stops)`,
    '',
    ...rows('Forwarding', mappings(gateway)),
    ...rows('Acting as', unique(config.routes.map(route => actor(gateway, route)))),
    ...rows(
      'Token',
      config.routes.flatMap(route => tokenLines(gateway, route, now)),
    ),
    ...(gateway.admin ? rows('Health', [`${gateway.admin.url}/readyz?verbose`]) : []),
    ...rows('Config', [configSource]),
    '',
    ...rows('Try it', [tryLine(gateway)]),
    '',
    '  Whoever can open this port on this computer acts with the identity above.',
    '',
  ]
}

function mappings(gateway: Gateway): string[] {
  const pairs = gateway.config.routes.flatMap(route => {
    const path = route.path === '/' ? '' : route.path
    const own = gateway.ownPorts.get(route.name)
    const to = formatUpstream(route.upstream)
    return [[`${gateway.url}${path}`, to] as const, ...(own === undefined ? [] : [[own, to] as const])]
  })
  const width = Math.max(...pairs.map(([from]) => from.length))
  return pairs.map(([from, to]) => `${from.padEnd(width)}  ->  ${to}`)
}

function actor(gateway: Gateway, route: RouteConfig): string {
  const state = gateway.tokenState(route.name)
  if (state === undefined || !state.usable) return `nobody yet (${state?.label ?? route.credential.type})`
  const { subject } = state
  const who =
    subject?.upn ??
    subject?.preferred_username ??
    (subject?.appid && `app ${subject.appid}`) ??
    (subject?.oid && `object ${subject.oid}`) ??
    'an identity the token does not name'
  const tenant = subject?.tid && !state.label.includes(subject.tid) ? `, tenant ${subject.tid}` : ''
  return `${who}  (${state.label}${tenant})`
}

function tokenLines(gateway: Gateway, route: RouteConfig, now: number): string[] {
  const state = gateway.tokenState(route.name)
  const several = gateway.config.routes.length > 1
  const name = `${several ? `${route.name}  ` : ''}${route.audience ?? route.scope}`
  if (state?.usable && state.expiresAt !== undefined) {
    const refresh = state.refreshAt === undefined ? '' : `, refreshes about ${at(state.refreshAt)}`
    return [`${name}  expires ${at(state.expiresAt)} (in ${span(state.expiresAt - now)})${refresh}`]
  }
  const error = state?.lastError
  const none = `${name}  none yet; the gateway keeps trying`
  if (error === undefined) return [none]
  const reasons = state?.notes.length ? state.notes : [error.detail]
  return [none, ...reasons.map(reason => `  ${reason}`), `  fix  ${error.remedy}`]
}

function at(time: number): string {
  return clockTime(new Date(time))
}

/** `23 h 59 min`, `59 min` or `4 s`. */
function span(ms: number): string {
  const minutes = Math.floor(ms / 60_000)
  if (minutes === 0) return `${Math.floor(ms / 1000)} s`
  const hours = Math.floor(minutes / 60)
  return hours === 0 ? `${minutes} min` : `${hours} h ${minutes % 60} min`
}

/** A harmless request that means something for the preset. */
function tryLine(gateway: Gateway): string {
  const [route] = gateway.config.routes
  const base = `${gateway.url}${route!.path === '/' ? '' : route!.path}`
  switch (route!.preset) {
    case 'batch':
      return `curl '${base}/jobs?maxresults=5${'api-version' in route!.query ? '' : '&api-version=2024-07-01.20.0'}'`
    case 'ml-online':
      return `curl ${base} -H 'content-type: application/json' -d '{"data":[[1,2,3]]}'`
    case 'arm':
      return `curl '${base}/subscriptions?api-version=2022-12-01'`
    default:
      return `curl ${base}/`
  }
}

/** The effective routes, one line each, for `run --dry-run` and `check`. */
export function describeRoutes(config: Config): string[] {
  const main = formatListen(config.listen[0]!)
  return config.routes.map(
    route =>
      `${route.name}  ${main}${route.path}${route.listen ? ` and ${formatListen(route.listen)}/` : ''}  ->  ${formatUpstream(route.upstream)}  preset ${route.preset}  scope ${route.scope}  credential ${route.credential.type}`,
  )
}

function unique(lines: readonly string[]): string[] {
  return [...new Set(lines)]
}
