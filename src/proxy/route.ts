// Routes: which one a path belongs to, what it permits, and where it leads.

import type { TokenSource } from '../auth/token.ts'
import type { RouteConfig } from '../config/config.ts'
import { nearest } from '../config/problems.ts'
import { GatewayError } from '../errors.ts'
import type { Admission } from './admission.ts'
import type { UpstreamPool } from './connections.ts'
import type { HeaderPolicy } from './headers.ts'
import type { LinkRewriting } from './links.ts'
import { checkPath, checkQuery, checkSeparators, type SplitTarget } from './target.ts'

/** A route at work: its configuration and all that is made from it once. */
export interface Route {
  readonly name: string
  readonly config: RouteConfig
  readonly tokens: TokenSource
  readonly pool: UpstreamPool
  readonly admission: Admission
  readonly headers: HeaderPolicy
  readonly links: LinkRewriting | undefined
  readonly permits: RoutePermits
  readonly defaultQuery: readonly DefaultQuery[]
}

interface RoutePermits {
  readonly methods: ReadonlySet<string> | undefined
  readonly paths: RegExp | undefined
}

interface DefaultQuery {
  readonly present: RegExp
  readonly pair: string
}

/** All routes, found by the longest path prefix at a segment boundary. */
export class RouteTable {
  readonly #byPath = new Map<string, Route>()
  readonly #byName = new Map<string, Route>()
  readonly #longest: number

  constructor(routes: readonly Route[]) {
    for (const route of routes) {
      this.#byPath.set(route.config.path, route)
      this.#byName.set(route.name, route)
    }
    this.#longest = Math.max(0, ...routes.map(route => route.config.path.length))
  }

  get routes(): readonly Route[] {
    return [...this.#byPath.values()]
  }

  /** The route of a listener of its own. */
  named(name: string): Route | undefined {
    return this.#byName.get(name)
  }

  /** `path` is compared as it came: never decoded, case kept. Throws `no_route`. */
  match(path: string): Route {
    let end = path.length <= this.#longest ? path.length : path.lastIndexOf('/', this.#longest)
    while (end > 0) {
      const route = this.#byPath.get(path.slice(0, end))
      if (route) return route
      end = path.lastIndexOf('/', end - 1)
    }
    const root = this.#byPath.get('/')
    if (root) return root
    throw this.#noRoute(path)
  }

  #noRoute(path: string): GatewayError {
    const paths = [...this.#byPath.keys()]
    const first = path.slice(0, 200).split('/', 2).join('/')
    const near = nearest(first, paths)
    return new GatewayError(
      'no_route',
      `No route for this path. Routes: ${paths.slice(0, 20).join(', ')}${paths.length > 20 ? ', …' : ''}.`,
      near === undefined
        ? 'Start the path with one of the routes, or add a route to the configuration.'
        : `Did you mean ${near}?`,
    )
  }
}

/** Throws `method_not_allowed` (with Allow) when the route has a list and `method` is not on it. */
export function checkMethod(route: Route, method: string): void {
  const { methods } = route.permits
  if (methods === undefined || methods.has(method)) return
  throw new GatewayError(
    'method_not_allowed',
    `Route ${route.name} does not permit ${method}.`,
    `Add the method to \`methods\` of route ${route.name} if it is wanted.`,
    { headers: { allow: [...methods].join(', ') } },
  )
}

/**
 * The path and query for the upstream: base path + the rest of `target`'s path + its query, bytes kept,
 * default query pairs added where the client sent none. `mountedAtRoot`: the path carries no route prefix.
 */
export function resolveTarget(route: Route, target: SplitTarget, mountedAtRoot: boolean): string {
  const { config, permits } = route
  checkPath(target.path)
  if (target.query !== '') checkQuery(target.query)
  const prefix = mountedAtRoot || config.path === '/' ? 0 : config.path.length
  const rest = prefix === 0 ? target.path : target.path.slice(prefix)
  if (permits.paths !== undefined) {
    checkSeparators(rest)
    if (!permits.paths.test(rest === '' ? '/' : rest)) {
      throw new GatewayError(
        'path_not_allowed',
        `Route ${route.name} does not permit this path.`,
        `Add the path to \`paths\` of route ${route.name} if it is wanted.`,
      )
    }
  }
  const { basePath } = config.upstream
  // A base path that is the whole target stays as configured: `/score`, not `/score/`.
  const path = basePath !== '' && rest === '/' && prefix === 0 ? basePath : basePath + rest
  return withDefaultQuery(path === '' ? '/' : path, target.query, route.defaultQuery)
}

function withDefaultQuery(path: string, query: string, defaults: readonly DefaultQuery[]): string {
  let result = query
  for (const { present, pair } of defaults) {
    if (present.test(query)) continue
    result += result === '' ? `?${pair}` : result === '?' ? pair : `&${pair}`
  }
  return path + result
}

/** Query names are compared without case, as Azure does. */
export function compileDefaultQuery(query: Readonly<Record<string, string>>): DefaultQuery[] {
  return Object.entries(query).map(([name, value]) => ({
    present: new RegExp(`[?&]${escapeRegExp(encodeURIComponent(name))}(?:[=&]|$)`, 'i'),
    pair: `${encodeURIComponent(name)}=${encodeURIComponent(value)}`,
  }))
}

/** `methods` and `paths` of a route; in a path `*` is one segment and `**` any number of them. */
export function compilePermits(config: Pick<RouteConfig, 'methods' | 'paths'>): RoutePermits {
  return {
    methods: config.methods && new Set(config.methods),
    paths: config.paths && new RegExp(`^(?:${config.paths.map(compileGlob).join('|')})$`),
  }
}

function compileGlob(glob: string): string {
  // `/jobs/**` also permits `/jobs`.
  const open = glob.endsWith('/**')
  const body = (open ? glob.slice(0, -3) : glob)
    .split(/(\*\*|\*)/)
    .map(part => (part === '**' ? '.*' : part === '*' ? '[^/]*' : escapeRegExp(part)))
    .join('')
  return open ? `${body}(?:/.*)?` : body
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
}
