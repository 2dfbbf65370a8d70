// Which token a route may carry: its preset, its scope, and whether the host is one that scope is for.

import { formatUpstream } from './address.ts'
import type { PresetName, Upstream } from './config.ts'
import {
  audienceOfHost,
  audienceOfScope,
  isOwnHost,
  isStandardPort,
  PRESETS,
  type Preset,
  recognisePreset,
} from './presets.ts'
import type { ConfigPath, Report } from './problems.ts'
import type { RouteDocument } from './schema.ts'

export interface TokenTarget {
  readonly presetName: PresetName
  readonly preset: Preset
  readonly scope: string
  /** Known only when the scope is the preset's own. */
  readonly audience?: string
}

/** The preset and scope of a route; undefined when it has been reported why there are none. */
export function resolveTokenTarget(
  route: Pick<RouteDocument, 'preset' | 'scope' | 'trustUpstream'>,
  upstream: Upstream,
  at: ConfigPath,
  report: Report,
): TokenTarget | undefined {
  const presetName = route.preset === 'auto' ? recognisePreset(upstream) : route.preset
  const preset = PRESETS[presetName]
  const hostProblem = route.trustUpstream
    ? undefined
    : (refusePort(upstream) ?? refusePreset(presetName, upstream))
  if (hostProblem !== undefined) report([...at, hostProblem.key], hostProblem.message)
  if (route.scope !== undefined) {
    const problem = refuseScope(route.scope)
    if (problem !== undefined) {
      report([...at, 'scope'], problem)
      return undefined
    }
    warnOfSlash(route.scope, [...at, 'scope'], report)
  }
  const scope = route.scope ?? preset.scope
  if (scope === undefined) {
    if (hostProblem === undefined)
      report([...at, 'scope'], missingScope(route.preset, upstream), { atKey: true })
    return undefined
  }
  if (hostProblem === undefined && !route.trustUpstream) {
    const problem = refuseHost(scope, upstream)
    if (problem !== undefined) report([...at, 'scope'], problem)
  }
  const audience = scope === preset.scope ? preset.audience : undefined
  return { presetName, preset, scope, ...(audience !== undefined && { audience }) }
}

interface HostProblem {
  readonly key: 'upstream' | 'preset'
  readonly message: string
}

function refusePort(upstream: Upstream): HostProblem | undefined {
  const owner = audienceOfHost(upstream.hostname)
  if (owner === undefined || isStandardPort(upstream)) return undefined
  return {
    key: 'upstream',
    message: `${owner.service} answers on https port 443 only; write https://${upstream.hostname}${upstream.basePath}`,
  }
}

function refusePreset(name: PresetName, upstream: Upstream): HostProblem | undefined {
  const { hosts } = PRESETS[name]
  if (hosts.length === 0 || isOwnHost(upstream, hosts)) return undefined
  return {
    key: 'preset',
    message:
      `preset ${name} is for ${hosts.join(', ')}, and ${upstream.host} is not; correct the upstream, use preset ` +
      'custom with a scope, or set trustUpstream: true if this host may have the token',
  }
}

/** A scope is one resource and `/.default`: a gateway acts as itself, with whatever it was granted. */
function refuseScope(scope: string): string | undefined {
  if (/\s/.test(scope)) return `"${scope}" has spaces in it; write one scope only, ending in /.default`
  if (!scope.endsWith('/.default')) {
    const proposal = audienceOfScope(scope)?.scope ?? `${scope.replace(/\/$/, '')}/.default`
    return `"${scope}" does not end in /.default; write ${proposal}`
  }
  if (/^([a-z][a-z0-9+.-]*:\/\/[^/?#@\s]+|[0-9a-fA-F-]{36})(\/[!-~]*)?\/\.default$/i.test(scope))
    return undefined
  return `"${scope}" names no resource; write https://host/.default, api://application-id/.default or application-id/.default`
}

/** The audience with two slashes differs from that with one, and the service may tell them apart. */
function warnOfSlash(scope: string, at: ConfigPath, report: Report): void {
  const known = audienceOfScope(scope)
  if (!known?.scope?.endsWith('//.default') || scope.endsWith('//.default') || !scope.includes('://')) return
  report(
    at,
    `${known.service} compares the audience with its trailing slash; write ${known.scope} if calls are answered 401 (it is sent as written)`,
    { severity: 'warning' },
  )
}

function missingScope(preset: RouteDocument['preset'], upstream: Upstream): string {
  const why =
    preset === 'auto'
      ? `the host ${upstream.host} does not say which token it takes`
      : `preset ${preset} has no scope of its own`
  const owner = audienceOfHost(upstream.hostname)
  const proposal =
    owner?.scope === undefined
      ? 'scope: api://<application id>/.default'
      : `scope: ${owner.scope} (the one of ${owner.service})`
  return `${why}; give the route a scope, such as ${proposal}, or use --scope`
}

function refuseHost(scope: string, upstream: Upstream): string | undefined {
  const audience = audienceOfScope(scope)
  if (audience === undefined || isOwnHost(upstream, audience.hosts)) return undefined
  const hosts = audience.hosts.slice(0, 6).join(', ') + (audience.hosts.length > 6 ? ', …' : '')
  return (
    `a token for ${audience.service} must not go to ${formatUpstream(upstream)}: its own hosts are ${hosts}; ` +
    'correct the upstream or the scope, or set trustUpstream: true if this host may have the token'
  )
}
