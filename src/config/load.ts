// From flags, environment and file to the configuration in force, or to every problem at once. Which
// value wins is decided here; what is a good value, in schema.ts (form) and resolve.ts (meaning).

import { readFileSync } from 'node:fs'
import { dirname, isAbsolute, join, relative, resolve as resolvePath } from 'node:path'
import type { Config, ConfigProblem } from './config.ts'
import { type Environment, mergeSettings, type RunFlags, type Settings, unknownVariables } from './flags.ts'
import { ConfigError, type ConfigPath, formatPath } from './problems.ts'
import { type ResolveInput, resolveConfig } from './resolve.ts'
import { validateDocument } from './schema.ts'
import { parseSource, type Source } from './source.ts'

// Those who load a configuration log it too.
export { describeConfig } from './describe.ts'

export interface ConfigInput {
  readonly flags: RunFlags
  readonly env: Environment
  /** Where `./entra-proxy.yaml` is looked for, and what relative paths of flags start from. */
  readonly cwd: string
  /** Reads a text file, throws as `readFileSync` does; replaced in tests. */
  readonly readFile?: (path: string) => string
}

/** The configuration in force, with its warnings. Throws a ConfigError that carries every problem. */
export function loadConfig(input: ConfigInput): Config {
  const { config, problems, source, unconfigured } = examineConfig(input)
  if (config === undefined) throw new ConfigError(problems, { source, unconfigured })
  return config
}

export interface Examined {
  /** Undefined when any problem is an error. */
  readonly config: Config | undefined
  /** Errors and warnings, in the order of the file. */
  readonly problems: readonly ConfigProblem[]
  /** The text of the file, for formatProblems. */
  readonly source: string | undefined
  /** Its name for people: relative when it is below the working directory. */
  readonly file: string | undefined
  /** True when there is neither a file nor a route: nothing is wrong, there is just nothing to run. */
  readonly unconfigured: boolean
}

/** As loadConfig, with everything it found out and without throwing. */
export function examineConfig(input: ConfigInput): Examined {
  const { cwd } = input
  const readFile = input.readFile ?? (path => readFileSync(path, 'utf8'))
  const merged = mergeSettings(input.flags, input.env)
  const problems = new ProblemList(merged.problems)
  const { settings } = merged
  const found = findFile(input, settings, readFile)
  if (found?.problem !== undefined) problems.add({ path: found.from, message: found.problem })
  const file = found === undefined ? undefined : displayName(found.path, cwd)
  const directory = found === undefined ? cwd : dirname(found.path)
  const source =
    found?.text === undefined
      ? undefined
      : parseSource(found.text, {
          variable: name => input.env[name],
          file: path => readFile(resolvePath(directory, path)),
        })
  problems.attach(file, source)
  for (const problem of unknownVariables(input.env, source?.variables ?? new Set())) problems.add(problem)

  const overlay = new Overlay(source?.value, settings, problems)
  const config = overlay.isUsable
    ? resolve(overlay, settings, { directory, env: input.env }, problems)
    : undefined
  const unconfigured = found === undefined && !overlay.hasRoutes && problems.list.length === 0
  if (!overlay.hasRoutes && problems.list.length === 0) problems.add(noRoutes(file))

  const list = problems.sorted()
  const isGood = config !== undefined && list.every(problem => problem.severity === 'warning')
  return {
    config: isGood
      ? {
          ...(found === undefined ? {} : { file: found.path }),
          ...config,
          requireToken: settings.requireToken?.value ?? false,
          warnings: list,
        }
      : undefined,
    problems: list,
    source: source?.text,
    file,
    unconfigured,
  }
}

function resolve(
  overlay: Overlay,
  settings: Settings,
  surroundings: Pick<ResolveInput, 'directory' | 'env'>,
  problems: ProblemList,
) {
  const written = structuredClone(overlay.document)
  const { document, problems: misfits, lostRoutes } = validateDocument(overlay.document)
  for (const { path, atKey, message } of misfits) problems.report(overlay, path, message, { atKey })
  const isKnownBad = (path: ConfigPath) =>
    misfits.some(misfit => isWithin(path, misfit.path) || isWithin(misfit.path, path))
  return resolveConfig({
    document,
    lostRoutes,
    ...surroundings,
    port: settings.port,
    isWritten: path => path.reduce<unknown>((value, key) => Object(value)[key], written) !== undefined,
    report(path, message, options) {
      if (!isKnownBad(path)) problems.report(overlay, path, message, options)
    },
    reportFlag: (from, message) => problems.add({ path: from, message }),
  })
}

function noRoutes(file: string | undefined): ConfigProblem {
  return {
    ...(file !== undefined && { file }),
    path: 'routes',
    message:
      'there is no route; give an upstream, such as `entra-proxy https://contoso.westeurope.batch.azure.com`, ' +
      'or write "upstream" or "routes" into entra-proxy.yaml',
  }
}

interface FoundFile {
  readonly path: string
  /** The flag that named it, for messages. */
  readonly from: string
  readonly text?: string
  readonly problem?: string
}

/** The file that was named, else the first of the usual ones that is there; nothing is merged. */
function findFile(
  { env, cwd }: ConfigInput,
  settings: Settings,
  readFile: (path: string) => string,
): FoundFile | undefined {
  const named = settings.config
  if (named !== undefined) {
    const path = resolvePath(cwd, named.value)
    try {
      return { path, from: named.from, text: readFile(path) }
    } catch (error) {
      return { path, from: named.from, problem: unreadable(named.value, error) }
    }
  }
  for (const path of usualFiles(env, cwd)) {
    try {
      return { path, from: path, text: readFile(path) }
    } catch (error) {
      const code = codeOf(error)
      if (code !== 'ENOENT' && code !== 'ENOTDIR')
        return { path, from: path, problem: unreadable(path, error) }
    }
  }
  return undefined
}

function usualFiles(env: Environment, cwd: string): string[] {
  const home = env['HOME'] ? join(env['HOME'], '.config') : env['APPDATA']
  // The XDG base directory specification has relative values ignored.
  const xdg = env['XDG_CONFIG_HOME'] && isAbsolute(env['XDG_CONFIG_HOME']) ? env['XDG_CONFIG_HOME'] : home
  return [
    ...['yaml', 'yml', 'json'].map(ending => join(cwd, `entra-proxy.${ending}`)),
    ...(xdg ? [join(xdg, 'entra-proxy', 'entra-proxy.yaml')] : []),
    '/etc/entra-proxy/entra-proxy.yaml',
  ]
}

function unreadable(name: string, error: unknown): string {
  const code = codeOf(error)
  if (code === 'ENOENT') return `${name} does not exist; check the path`
  if (code === 'EISDIR') return `${name} is a directory; name the file in it`
  return `cannot read ${name} (${code}); check its permissions`
}

function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error) return String(error.code)
  return error instanceof Error ? error.message : String(error)
}

function displayName(path: string, cwd: string): string {
  const name = relative(cwd, path)
  return name.startsWith('..') || isAbsolute(name) ? path : name
}

function isWithin(path: ConfigPath, ancestor: ConfigPath): boolean {
  return ancestor.every((part, i) => part === path[i])
}

/** Where a value of the merged document really comes from: a flag or variable, or another place of the file. */
type Origin = { readonly from: string } | { readonly path: ConfigPath }

/** The file's document with flags and variables laid over it; remembers which value came from where. */
class Overlay {
  /** What is to be validated: a plain object, or whatever wrong thing the file holds. */
  readonly document: unknown
  /** False when the file's syntax is broken: there is nothing to look at. */
  readonly isUsable: boolean
  readonly #origins: { readonly at: ConfigPath; readonly origin: Origin }[] = []

  constructor(value: unknown, settings: Settings, problems: ProblemList) {
    this.isUsable = value !== undefined || !problems.hasSource
    const document = value ?? {}
    this.document = document
    if (isMapping(document)) {
      this.#layRoutes(document, settings, problems)
      this.#layTokens(document, settings, problems)
      this.#layCredential(document, settings)
      this.#layRest(document, settings)
    }
  }

  get hasRoutes(): boolean {
    return isMapping(this.document) && 'routes' in this.document
  }

  /** The origin of the value at `path`, undefined when it is simply the file at that path. */
  originOf(path: ConfigPath): Origin | undefined {
    return this.#origins.findLast(({ at }) => isWithin(path, at))?.origin
  }

  #set(
    container: Record<string, unknown>,
    at: ConfigPath,
    setting: { value: unknown; from: string } | undefined,
  ) {
    if (setting === undefined) return
    container[String(at.at(-1))] = setting.value
    this.#origins.push({ at, origin: { from: setting.from } })
  }

  #layRoutes(document: Record<string, unknown>, { route, upstream }: Settings, problems: ProblemList): void {
    const written =
      upstream === undefined ? [] : [{ path: '/', upstream: upstream.value, from: upstream.from }]
    for (const text of route?.value ?? []) {
      const { from } = route!
      const split = text.indexOf('=')
      if (split < 1) {
        problems.add({
          path: from,
          message: `"${text}" is not PATH=URL; write /batch=https://contoso.westeurope.batch.azure.com`,
        })
        continue
      }
      const path = text.slice(0, split)
      written.push({ path, upstream: text.slice(split + 1), from: `${from} ${path}` })
    }
    if (route !== undefined || upstream !== undefined) {
      for (const key of ['upstream', 'routes']) {
        if (key in document)
          problems.report(
            this,
            [key],
            `not used: ${(route ?? upstream)!.from} replaces the routes of the file`,
            { atKey: true, severity: 'warning' },
          )
      }
      Reflect.deleteProperty(document, 'upstream')
      Reflect.deleteProperty(document, 'routes')
      if (written.length === 0) return
      document['routes'] = written.map(({ path, upstream }) => ({ path, upstream }))
      for (const [i, { from }] of written.entries())
        this.#origins.push({ at: ['routes', i], origin: { from } })
      return
    }
    if (!('upstream' in document)) return
    if ('routes' in document) {
      problems.report(
        this,
        ['upstream'],
        'the short form and "routes" exclude each other; make it one of the routes',
        { atKey: true },
      )
      Reflect.deleteProperty(document, 'upstream')
      return
    }
    document['routes'] = [{ path: '/', upstream: document['upstream'] }]
    Reflect.deleteProperty(document, 'upstream')
    this.#origins.push({ at: ['routes'], origin: { path: ['upstream'] } })
  }

  /** `--preset` and `--scope` are of all routes from the command line, or of the only one in the file. */
  #layTokens(document: Record<string, unknown>, settings: Settings, problems: ProblemList): void {
    const routes = Array.isArray(document['routes']) ? (document['routes'] as unknown[]) : []
    const isOurs = settings.route !== undefined || settings.upstream !== undefined
    for (const key of ['preset', 'scope'] as const) {
      const setting = settings[key]
      if (setting === undefined) continue
      if (!isOurs && routes.length > 1) {
        problems.add({
          path: setting.from,
          message: `the file has ${routes.length} routes, and it cannot be meant for all; write ${key} into the route`,
        })
        continue
      }
      for (const [i, route] of routes.entries()) {
        if (isMapping(route)) this.#set(route, ['routes', i, key], setting)
      }
    }
  }

  #layCredential(document: Record<string, unknown>, { credential, clientId, tenantId }: Settings): void {
    this.#set(document, ['credential'], credential)
    if (clientId === undefined && tenantId === undefined) return
    const base = document['credential'] ?? 'auto'
    const settings = isMapping(base) ? { ...base } : { type: base }
    document['credential'] = settings
    if (!isMapping(base))
      this.#origins.push({
        at: ['credential', 'type'],
        origin: this.originOf(['credential']) ?? { path: ['credential'] },
      })
    this.#set(settings, ['credential', 'clientId'], clientId)
    this.#set(settings, ['credential', 'tenantId'], tenantId)
  }

  #layRest(document: Record<string, unknown>, settings: Settings): void {
    const { listen, adminListen, inspect, logLevel, logFormat } = settings
    this.#set(document, ['listen'], listen)
    this.#setWithin(document, 'admin', 'listen', adminListen)
    this.#setWithin(
      document,
      'admin',
      'inspector',
      inspect && { ...inspect, value: inspect.value ? 'on' : 'off' },
    )
    this.#setWithin(document, 'log', 'level', logLevel)
    this.#setWithin(document, 'log', 'format', logFormat)
  }

  #setWithin(
    document: Record<string, unknown>,
    section: string,
    key: string,
    setting: { value: unknown; from: string } | undefined,
  ): void {
    if (setting === undefined) return
    const container = document[section] ?? {}
    if (!isMapping(container)) return
    document[section] = container
    this.#set(container, [section, key], setting)
  }
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Gathers problems, gives them their places, and keeps secrets out of their text. */
class ProblemList {
  readonly list: ConfigProblem[]
  #file: string | undefined
  #source: Source | undefined

  constructor(problems: readonly ConfigProblem[]) {
    this.list = [...problems]
  }

  get hasSource(): boolean {
    return this.#source !== undefined
  }

  /** From here on problems can be placed; those of the file's own syntax are added. */
  attach(file: string | undefined, source: Source | undefined): void {
    this.#file = file
    this.#source = source
    for (const { path, ...problem } of source?.problems ?? []) {
      this.add({ ...(file !== undefined && { file }), ...problem, path: formatPath(path) })
    }
  }

  add(problem: ConfigProblem): void {
    this.list.push({ ...problem, message: this.#mask(problem.message) })
  }

  report(
    overlay: Overlay,
    path: ConfigPath,
    message: string,
    options: { readonly atKey?: boolean; readonly severity?: 'warning' } = {},
  ): void {
    const { atKey = false, severity } = options
    const origin = overlay.originOf(path)
    const warning = severity && { severity }
    if (origin !== undefined && 'from' in origin) {
      this.add({ path: origin.from, message, ...warning })
      return
    }
    if (this.#file === undefined || this.#source === undefined) {
      this.add({ path: formatPath(path), message, ...warning })
      return
    }
    const actual = origin?.path ?? path
    const place = this.#source.locate(actual, atKey)
    // A value that could not be expanded has been reported as that.
    if (!atKey && this.#source.problems.some(p => p.line === place.line && p.column === place.column)) return
    this.add({ file: this.#file, ...place, path: formatPath(actual), message, ...warning })
  }

  /** In the order of the file, those of flags and variables first. */
  sorted(): ConfigProblem[] {
    return this.list.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0))
  }

  #mask(message: string): string {
    return (this.#source?.secrets ?? [])
      .filter(secret => secret !== '')
      .reduce((text, secret) => text.replaceAll(secret, '…'), message)
  }
}
