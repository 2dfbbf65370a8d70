// The flags of `run` and their ENTRA_PROXY_* twins: which exist, and that a flag wins over its variable.
// What a value means is decided where the file's value of the same name is decided.

import type { ConfigProblem } from './config.ts'
import { ConfigError, didYouMean } from './problems.ts'

/** The environment, as `process.env` has it. */
export type Environment = Readonly<Record<string, string | undefined>>

/** The flags of `run` as the command line gives them; all optional, none checked yet. */
export interface RunFlags {
  /** `-c`: the configuration file. */
  readonly config?: string | undefined
  /** `-r`, repeatable: `PATH=URL`. */
  readonly route?: readonly string[] | undefined
  /** The positional URL: one route at `/`. */
  readonly upstream?: string | undefined
  readonly preset?: string | undefined
  readonly scope?: string | undefined
  readonly credential?: string | undefined
  readonly clientId?: string | undefined
  readonly tenantId?: string | undefined
  /** `-l`: `host:port` or `unix:/path`. */
  readonly listen?: string | undefined
  /** `-p`: the port of the first listener. */
  readonly port?: string | number | undefined
  /** `host:port` or `off`. */
  readonly adminListen?: string | undefined
  readonly inspect?: boolean | undefined
  readonly requireToken?: boolean | undefined
  readonly logLevel?: string | undefined
  readonly logFormat?: string | undefined
  /** The last three are for the command, and change nothing in the configuration. */
  readonly quiet?: boolean | undefined
  readonly readyFile?: string | undefined
  readonly dryRun?: boolean | undefined
}

/** What a flag's value is, besides text. */
const FLAG_KINDS = {
  config: 'text',
  route: 'list',
  upstream: 'text',
  preset: 'text',
  scope: 'text',
  credential: 'text',
  clientId: 'text',
  tenantId: 'text',
  listen: 'text',
  port: 'text',
  adminListen: 'text',
  inspect: 'boolean',
  requireToken: 'boolean',
  logLevel: 'text',
  logFormat: 'text',
  quiet: 'boolean',
  readyFile: 'text',
  dryRun: 'boolean',
} as const satisfies Record<keyof RunFlags, 'text' | 'list' | 'boolean'>

type FlagName = keyof typeof FLAG_KINDS

const FLAG_NAMES = Object.keys(FLAG_KINDS) as FlagName[]

/** The variable of each flag: `clientId` → `ENTRA_PROXY_CLIENT_ID`. */
const VARIABLES = new Map(
  FLAG_NAMES.map(name => [`ENTRA_PROXY_${name.replace(/[A-Z]/g, '_$&').toUpperCase()}`, name]),
)

/** A value with the flag or variable it came from, such as `--scope` or `ENTRA_PROXY_SCOPE`. */
export interface Setting<T> {
  readonly value: T
  readonly from: string
}

export type Settings = { readonly [K in FlagName]?: Setting<NonNullable<RunFlags[K]>> }

export interface MergedSettings {
  readonly settings: Settings
  readonly problems: readonly ConfigProblem[]
}

/**
 * Flags and variables as one; a flag wins, and routes given as flags (`--route`, URL) win over all
 * routes given as variables. An empty variable counts as not set.
 */
export function mergeSettings(flags: RunFlags, env: Environment): MergedSettings {
  const problems: ConfigProblem[] = []
  const settings: { [name: string]: Setting<unknown> } = {}
  const hasRoutes = flags.route !== undefined || flags.upstream !== undefined
  for (const [variable, name] of VARIABLES) {
    const value = env[variable]
    if (value === undefined || value === '' || isServiceLink(variable, value)) continue
    if (hasRoutes && (name === 'route' || name === 'upstream')) continue
    const parsed = parseVariable(name, value)
    if (parsed === undefined) {
      problems.push({
        path: variable,
        message: `${JSON.stringify(value)} is neither true nor false; write one of them`,
      })
    } else {
      settings[name] = { value: parsed, from: variable }
    }
  }
  for (const name of FLAG_NAMES) {
    const value = flags[name]
    if (value !== undefined) settings[name] = { value, from: labelOf(name) }
  }
  return { settings: settings as Settings, problems }
}

/** The flags in force, variables included. Throws a ConfigError when a variable cannot be read. */
export function resolveFlags(flags: RunFlags, env: Environment): RunFlags {
  const { settings, problems } = mergeSettings(flags, env)
  if (problems.length > 0) throw new ConfigError(problems)
  return Object.fromEntries(
    Object.entries(settings).map(([name, setting]) => [name, setting.value]),
  ) as RunFlags
}

/** Variables that begin like ours and mean nothing. `used`: names the file itself asks for. */
export function unknownVariables(env: Environment, used: ReadonlySet<string>): ConfigProblem[] {
  return Object.entries(env)
    .filter(([name]) => name.startsWith('ENTRA_PROXY_') && !VARIABLES.has(name))
    .filter(([name, value]) => !used.has(name) && name !== URL_VARIABLE && !isServiceLink(name, value ?? ''))
    .map(([name]) => {
      const hint =
        didYouMean(name, [...VARIABLES.keys()]) || '; remove it, or see the list in `entra-proxy help run`'
      return { path: name, message: `unknown variable${hint}` }
    })
}

/** Set by `entra-proxy exec` for the program it runs, which may well be another entra-proxy. */
const URL_VARIABLE = 'ENTRA_PROXY_URL'

/**
 * Kubernetes describes each Service of a namespace to each container; a Service called `entra-proxy`
 * gives ENTRA_PROXY_SERVICE_HOST, ENTRA_PROXY_PORT=tcp://10.0.0.1:8656 and more. None of it is for us.
 */
function isServiceLink(name: string, value: string): boolean {
  return (
    /^ENTRA_PROXY_(SERVICE|PORT)_/.test(name) ||
    (name === 'ENTRA_PROXY_PORT' && /^(tcp|udp|sctp):/.test(value))
  )
}

function parseVariable(name: FlagName, value: string): unknown {
  switch (FLAG_KINDS[name]) {
    case 'text':
      return value
    case 'list':
      return value.trim().split(/\s+/)
    case 'boolean':
      if (/^(1|true|yes|on)$/i.test(value)) return true
      return /^(0|false|no|off)$/i.test(value) ? false : undefined
  }
}

function labelOf(name: FlagName): string {
  return name === 'upstream' ? 'URL' : `--${name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`
}
