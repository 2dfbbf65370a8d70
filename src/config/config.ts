// The configuration in force: parsed, checked, every default filled in, durations in milliseconds and
// sizes in bytes. load.ts makes it from a file, the environment and flags; everything else reads it.

export type PresetName = 'batch' | 'ml-online' | 'ml-batch' | 'arm' | 'custom'

export type RewriteLinks = 'none' | 'headers' | 'headers+json'

/** An address to listen on. `localhost` stands for both loopback families, 127.0.0.1 and ::1. */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/** Where a route leads. `origin` has no trailing slash; `basePath` is '' or starts with '/', no trailing slash. */
export interface Upstream {
  readonly origin: string
  /** Lower-case host name without port, for the audience table and TLS. */
  readonly hostname: string
  /** `host` or `host:port`, as it goes into the Host header. */
  readonly host: string
  readonly basePath: string
}

export type CredentialType =
  | 'auto'
  | 'environment'
  | 'workload-identity'
  | 'managed-identity'
  | 'client-secret'
  | 'azure-cli'
  | 'azure-developer-cli'
  | 'azure-powershell'
  | 'static'

/** How a token is got. Secrets are file names here, never values, so that a config can be logged. */
export interface CredentialConfig {
  readonly type: CredentialType
  readonly tenantId?: string
  readonly clientId?: string
  readonly resourceId?: string
  readonly objectId?: string
  readonly clientSecretFile?: string
  /** `static`: the file that holds the token; `workload-identity`: the one that holds the federated token. */
  readonly tokenFile?: string
  /** Entra's address in a sovereign cloud or a test, `https://…`. */
  readonly authorityHost?: string
  /** `auto`: the names of AZURE_TOKEN_CREDENTIALS are read from the environment, not from here. */
}

export interface RouteConfig {
  /** `^[a-z][a-z0-9-]{0,39}$`; unique; a metric label. */
  readonly name: string
  /** `/` or `/segment…`, no trailing slash. */
  readonly path: string
  /** The route's own port, where it is mounted at `/`. */
  readonly listen?: ListenAddress
  readonly upstream: Upstream
  readonly preset: PresetName
  readonly scope: string
  /** The audience the preset knows; a token whose `aud` differs is refused. Absent for custom scopes. */
  readonly audience?: string
  readonly credential: CredentialConfig
  readonly methods?: readonly string[]
  readonly paths?: readonly string[]
  readonly query: Readonly<Record<string, string>>
  readonly requestHeaders: HeaderRules
  readonly responseHeaders: HeaderRules
  readonly rewriteLinks: RewriteLinks
  readonly trustUpstream: boolean
  readonly timeouts: { readonly connectMs: number; readonly responseMs: number; readonly idleMs: number }
  readonly limits: {
    readonly maxConcurrent: number
    readonly maxQueue: number
    readonly queueTimeoutMs: number
    readonly maxBodyBytes: number
  }
}

export interface HeaderRules {
  readonly set: Readonly<Record<string, string>>
  /** Lower-case names. */
  readonly remove: readonly string[]
}

export interface Config {
  /** The file it came from; undefined when it came from the command line alone. */
  readonly file?: string
  readonly listen: readonly ListenAddress[]
  readonly routes: readonly RouteConfig[]
  readonly token: { readonly refreshBeforeMs: number; readonly timeoutMs: number }
  readonly outbound: { readonly caFile?: string }
  readonly tls?: { readonly certFile: string; readonly keyFile: string }
  readonly security: {
    /** Lower-case `name` or `name:port`, beyond localhost, 127.0.0.1 and [::1]. */
    readonly allowedHosts: readonly string[]
    readonly allowedOrigins: readonly string[]
    readonly forwardedRequests: 'reject' | 'strip'
    readonly clientKey?: { readonly file: string }
    readonly allowRemote: boolean
  }
  readonly admin: { readonly listen?: ListenAddress; readonly metrics: boolean }
  readonly log: {
    readonly level: LogLevel
    readonly format: 'auto' | 'pretty' | 'json'
    readonly access: AccessLog
  }
  readonly shutdown: { readonly graceMs: number }
  /** `--require-token`: no token for some route at start ends the program (exit 4). */
  readonly requireToken?: boolean
  /** What is allowed but probably not meant. */
  readonly warnings?: readonly ConfigProblem[]
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** Which requests get an access line. */
export type AccessLog = 'all' | 'errors' | 'none'

/** Anything wrong with a configuration, with its place in the file when it came from one. */
export interface ConfigProblem {
  readonly file?: string
  /** From 1. */
  readonly line?: number
  /** From 1. */
  readonly column?: number
  /** Characters the place covers on its line. */
  readonly length?: number
  /** `routes[0].upstream`, or the flag or variable the value came from. */
  readonly path: string
  readonly message: string
  /** A warning does not stop the program. Absent: an error. */
  readonly severity?: 'error' | 'warning'
}
