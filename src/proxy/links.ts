// Which links in an answer lead back into the gateway: an absolute URL that points at a configured route's
// upstream becomes the gateway's own URL for that route; every other one stays as it came.

import type { RouteConfig, Upstream } from '../config/config.ts'

/** What is asked of a route here; a `RouteConfig` is one. */
export type LinkRoute = Pick<RouteConfig, 'name' | 'path' | 'upstream'>

/** Where an answer's client stands: what its next URL has to start with to come back here. */
export interface LinkOrigin {
  /** Name of the route the answer came by; its own links are tried first. */
  readonly route: string
  /** The main listener as this client reaches it, no trailing slash: `http://localhost:8656`. */
  readonly gateway: string
  /** Set when the request came in by the route's own port: `http://localhost:8660`, no trailing slash. */
  readonly ownPort?: string | undefined
}

/** What a route does about links; a route that leaves them alone has none. */
export interface LinkRewriting {
  readonly links: LinkMap
  /** Also in JSON bodies, not only in headers. */
  readonly json: boolean
}

/** A link that leads back here: the URL to use is `base + link.slice(from)`. */
export interface LinkMatch {
  readonly base: string
  /** Index in the link of the first character after the upstream's base; all before it is ASCII. */
  readonly from: number
}

interface Target {
  readonly name: string
  readonly basePath: string
  /** The route's path on the main listener, '' for `/`. */
  readonly mount: string
  /** Paths, below `mount`, that the main listener gives to other routes. */
  readonly shadows: readonly string[]
}

// No user information and no other scheme; only ASCII in the host, so that case folding cannot let a
// foreign letter pass for one of its own.
const ORIGIN = /^(https?):\/\/([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(\d{0,5}))?(?=[/?#]|$)/i

// URL parsers strip or reinterpret these, each in its own way: what they would call cannot be told.
const AMBIGUOUS = /[\s\\\p{Cc}]/u

// A dot segment in any encoding would be resolved by the client and leave the route's path.
const DOT_SEGMENT = /\/(?:\.|%2e){1,2}(?=[/?#]|$)/i

/** The links of one route table. */
export class LinkMap {
  /** By canonical origin, each list longest base path first. */
  readonly #targets = new Map<string, Target[]>()

  constructor(routes: readonly LinkRoute[]) {
    const mounts = routes.map(route => (route.path === '/' ? '' : route.path))
    for (const [index, { name, upstream }] of routes.entries()) {
      const mount = mounts[index] ?? ''
      const shadows = mounts
        .filter(other => other !== mount && isUnder(other, mount))
        .map(other => other.slice(mount.length))
      this.#add(upstream, { name, basePath: upstream.basePath, mount, shadows })
    }
    for (const targets of this.#targets.values()) {
      targets.sort((a, b) => b.basePath.length - a.basePath.length)
    }
  }

  #add(upstream: Upstream, target: Target): void {
    const origin = ORIGIN.exec(upstream.origin)
    if (origin === null) return
    const key = originKey(origin)
    const targets = this.#targets.get(key)
    if (targets === undefined) this.#targets.set(key, [target])
    else targets.push(target)
  }

  /** The gateway's URL for `link`, path and query kept as they are; null when the link does not lead here. */
  resolve(link: string, origin: LinkOrigin): string | null {
    const match = this.match(link, origin)
    return match && match.base + link.slice(match.from)
  }

  /** As `resolve`, for callers that keep the rest of the link in another spelling. */
  match(link: string, origin: LinkOrigin): LinkMatch | null {
    const parsed = ORIGIN.exec(link)
    if (parsed === null) return null
    const targets = this.#targets.get(originKey(parsed))
    if (targets === undefined || AMBIGUOUS.test(link)) return null

    const path = link.slice(parsed[0].length).split(/[?#]/, 1)[0] ?? ''
    if (DOT_SEGMENT.test(path)) return null

    const own = targets.find(target => target.name === origin.route)
    for (const target of own === undefined ? targets : [own, ...targets]) {
      if (!isUnder(path, target.basePath)) continue
      const from = parsed[0].length + target.basePath.length
      if (target === own && origin.ownPort !== undefined) return { base: origin.ownPort, from }
      const rest = path.slice(target.basePath.length)
      if (target.shadows.some(shadow => isUnder(rest, shadow))) continue
      return { base: origin.gateway + target.mount, from }
    }
    return null
  }
}

/** Scheme, host and port, the port always written out. */
function originKey([, scheme = '', host = '', port = '']: RegExpExecArray): string {
  const lower = scheme.toLowerCase()
  return `${lower}://${host.toLowerCase()}:${port === '' ? (lower === 'https' ? 443 : 80) : Number(port)}`
}

/** Whether `path` is `prefix` or lies below it; both without query, `prefix` without trailing slash. */
function isUnder(path: string, prefix: string): boolean {
  return path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === '/')
}

type RewriteValue = (value: string, links: LinkMap, origin: LinkOrigin) => string

const LINK_HEADERS: ReadonlyMap<string, RewriteValue> = new Map([
  ['location', rewriteUrl],
  ['content-location', rewriteUrl],
  ['operation-location', rewriteUrl],
  ['azure-asyncoperation', rewriteUrl],
  ['dataserviceid', rewriteUrl],
  ['link', rewriteTargets],
  ['ocp-batch-file-url', rewriteEncodedUrl],
])

const LINK_HEADER_HINTS: ReadonlySet<number> = new Set([...LINK_HEADERS.keys()].map(nameHint))

/** Length and first letter of a header's name, case folded. */
function nameHint(name: string): number {
  return (name.length << 5) | (name.charCodeAt(0) & 0x1f)
}

/**
 * Rewrites, in place, the links of response headers given as a flat list `name, value, name, value, …`.
 * Names may be in any case; names, order and repeats are kept.
 */
export function rewriteLinkHeaders(headers: string[], links: LinkMap, origin: LinkOrigin): void {
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index]!
    // Enough to pass over nearly all other names without making a lower-case copy.
    if (!LINK_HEADER_HINTS.has(nameHint(name))) continue
    const rewrite = LINK_HEADERS.get(name.toLowerCase())
    if (rewrite !== undefined) headers[index + 1] = rewrite(headers[index + 1]!, links, origin)
  }
}

function rewriteUrl(value: string, links: LinkMap, origin: LinkOrigin): string {
  return links.resolve(value, origin) ?? value
}

// A target, or a quoted parameter value that has to be stepped over because it may hold a `<`. Neither
// branch can fail far from where it began, so the time is linear in the length of the header.
const LINK_PARTS = /<([^<>]*)>|"(?:[^"\\]|\\.)*(?:"|\\?$)/gs

/** `<target>; rel="next", <target>; …` (RFC 8288, section 3). Parameters, `anchor` included, are left alone. */
function rewriteTargets(value: string, links: LinkMap, origin: LinkOrigin): string {
  return value.replace(LINK_PARTS, (part: string, target?: string) => {
    const resolved = target === undefined ? null : links.resolve(target, origin)
    return resolved === null ? part : `<${resolved}>`
  })
}

const ENCODED_DELIMITER = /%(?:3a|2f|3f|23)/gi

/**
 * Batch sends `ocp-batch-file-url` percent-encoded from end to end (`https%3A%2F%2F…`), and so it stays.
 * Only the delimiters of a URL are decoded to read it: an encoded `\`, `@` or blank is then still data.
 */
function rewriteEncodedUrl(value: string, links: LinkMap, origin: LinkOrigin): string {
  const link = value.replace(ENCODED_DELIMITER, decodeURIComponent)
  const match = links.match(link, origin)
  if (match === null) return value
  if (link === value) return match.base + value.slice(match.from)

  let end = 0
  for (let index = 0; index < match.from; index += 1) {
    end += value[end] === '%' && link[index] !== '%' ? 3 : 1
  }
  return encodeURIComponent(match.base) + value.slice(end)
}
