// Which headers pass, in both directions. Hop-by-hop headers and everything `Connection` lists go
// first; ours are set last, so that nobody's list can take them away (CVE-2026-33805).

import type { RouteConfig } from '../config/config.ts'

/** What belongs to one connection only: RFC 9110 section 7.6.1. */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]

/** A client's credentials, its claims about the way it came, and what Azure's own front ends set. */
const CLIENT_ONLY = [
  'host',
  'authorization',
  'cookie',
  'expect',
  'forwarded',
  'via',
  'x-real-ip',
  'x-original-url',
  'x-rewrite-url',
  'x-http-method-override',
  'x-identity-header',
  'metadata',
]

const CLIENT_ONLY_PREFIXES = [
  'proxy-',
  'sec-',
  'x-forwarded-',
  'x-ms-client-principal',
  'x-ms-token-',
  'x-entra-proxy-',
]

/** Upstream answers lose these: they are about the upstream's connection or its host name, not ours. */
const UPSTREAM_ONLY = new Set([
  ...HOP_BY_HOP,
  'proxy-authenticate',
  'set-cookie',
  'strict-transport-security',
  'alt-svc',
])

const DROPPED = new Set([...HOP_BY_HOP, ...CLIENT_ONLY])
/** The first characters of CLIENT_ONLY_PREFIXES: p, s, x. */
const PREFIX_STARTS = new Set(CLIENT_ONLY_PREFIXES.map(prefix => prefix.charCodeAt(0)))

/** The content codings the gateway can undo to rewrite links in a body. */
const READABLE_CODINGS = new Set(['gzip', 'x-gzip', 'deflate', 'br', 'identity', '*'])

/** Which request id headers Azure expects: Batch has its own pair, the others `x-ms-…`. */
export type RequestIdStyle = 'batch' | 'ms'

/** A route's header rules, prepared once. */
export interface HeaderPolicy {
  readonly removeOut: ReadonlySet<string> | undefined
  readonly setOut: readonly string[]
  readonly removeBack: ReadonlySet<string> | undefined
  readonly setBack: readonly string[]
  readonly requestId: RequestIdStyle
  /** Bodies are read to rewrite links: ask for codings that can be undone. */
  readonly readsBodies: boolean
  /** `Via` of this gateway, set towards loopback upstreams only, where a loop can come from. */
  readonly via: string | undefined
}

export function compileHeaderPolicy(
  config: Pick<RouteConfig, 'requestHeaders' | 'responseHeaders' | 'preset' | 'rewriteLinks'>,
  via: string | undefined,
): HeaderPolicy {
  const { requestHeaders, responseHeaders } = config
  const setNames = (rules: RouteConfig['requestHeaders']) => [
    ...rules.remove,
    ...Object.keys(rules.set).map(name => name.toLowerCase()),
  ]
  const asSet = (names: string[]) => (names.length === 0 ? undefined : new Set(names))
  return {
    removeOut: asSet(setNames(requestHeaders)),
    setOut: Object.entries(requestHeaders.set).flat(),
    removeBack: asSet(setNames(responseHeaders)),
    setBack: Object.entries(responseHeaders.set).flat(),
    requestId: config.preset === 'batch' ? 'batch' : 'ms',
    readsBodies: config.rewriteLinks === 'headers+json',
    via,
  }
}

/**
 * The header list for the upstream, as name, value, name, value. `raw` is the client's, order, case and
 * repeats kept. The last pair is `authorization`; Host is the forwarding library's.
 */
export function outboundHeaders(
  raw: readonly string[],
  policy: HeaderPolicy,
  requestId: string,
  authorization: string,
): string[] {
  const out: string[] = []
  const { removeOut } = policy
  let listed: string | undefined
  let hasBatchId = false
  let hasMsId = false
  for (let i = 0; i < raw.length; i += 2) {
    const original = raw[i]!
    const name = original.toLowerCase()
    if (name === 'connection') {
      listed = listed === undefined ? raw[i + 1]! : `${listed},${raw[i + 1]}`
      continue
    }
    if (isClientOnly(name) || removeOut?.has(name)) continue
    if (name === 'client-request-id') hasBatchId = true
    else if (name === 'x-ms-client-request-id') hasMsId = true
    if (policy.readsBodies && name === 'accept-encoding') out.push(original, readableCodings(raw[i + 1]!))
    else out.push(original, raw[i + 1]!)
  }
  if (listed !== undefined) removeListed(out, listed)
  if (policy.requestId === 'batch') {
    if (!hasBatchId) out.push('client-request-id', requestId, 'return-client-request-id', 'true')
  } else if (!hasMsId) out.push('x-ms-client-request-id', requestId)
  for (const part of policy.setOut) out.push(part)
  if (policy.via !== undefined) out.push('via', policy.via)
  out.push('authorization', authorization)
  return out
}

function isClientOnly(name: string): boolean {
  if (DROPPED.has(name)) return true
  return PREFIX_STARTS.has(name.charCodeAt(0)) && CLIENT_ONLY_PREFIXES.some(prefix => name.startsWith(prefix))
}

/** Takes out of `pairs` what a Connection header names. */
function removeListed(pairs: string[], listed: string): void {
  const names = new Set(
    listed
      .toLowerCase()
      .split(',')
      .map(name => name.trim())
      .filter(name => name !== '' && name !== 'close' && name !== 'keep-alive'),
  )
  // The framing of the body is not the client's to hide.
  names.delete('content-length')
  if (names.size === 0) return
  for (let i = pairs.length - 2; i >= 0; i -= 2) {
    if (names.has(pairs[i]!.toLowerCase())) pairs.splice(i, 2)
  }
}

function readableCodings(value: string): string {
  const items = value.split(',')
  const kept = items.filter(item => READABLE_CODINGS.has(item.split(';', 1)[0]!.trim().toLowerCase()))
  if (kept.length === items.length) return value
  return kept.length === 0 ? 'identity' : kept.join(',').trim()
}

/**
 * The header list for the client, as name, value, …, from the upstream's raw list (latin1 bytes),
 * order, case and repeats kept.
 */
export function inboundHeaders(
  raw: readonly (Buffer | string)[],
  policy: HeaderPolicy,
  requestId: string,
): string[] {
  const back: string[] = []
  const { removeBack } = policy
  let listed: string | undefined
  for (let i = 0; i < raw.length; i += 2) {
    const original = latin1(raw[i]!)
    const name = original.toLowerCase()
    if (name === 'connection') {
      const value = latin1(raw[i + 1]!)
      listed = listed === undefined ? value : `${listed},${value}`
      continue
    }
    if (UPSTREAM_ONLY.has(name) || removeBack?.has(name)) continue
    if (name.charCodeAt(0) === 0x78 && name.startsWith('x-entra-proxy-')) continue
    back.push(original, latin1(raw[i + 1]!))
  }
  if (listed !== undefined) removeListed(back, listed)
  for (const part of policy.setBack) back.push(part)
  back.push('x-entra-proxy-request-id', requestId)
  return back
}

function latin1(value: Buffer | string): string {
  return typeof value === 'string' ? value : value.toString('latin1')
}

/** The value of the first header called `name` (lower case), or undefined. */
export function findHeader(pairs: readonly string[], name: string): string | undefined {
  for (let i = 0; i < pairs.length; i += 2) {
    const candidate = pairs[i]!
    if (candidate.length === name.length && candidate.toLowerCase() === name) return pairs[i + 1]
  }
  return undefined
}

/** Takes every header called one of `names` (lower case) out of `pairs`. */
export function removeHeaders(pairs: string[], names: readonly string[]): void {
  for (let i = pairs.length - 2; i >= 0; i -= 2) {
    if (names.includes(pairs[i]!.toLowerCase())) pairs.splice(i, 2)
  }
}
