// `run`: the gateway in the foreground, from flags, environment and file to a clean stop.

import { renameSync, rmSync, writeFileSync } from 'node:fs'
import type { Config } from '../config/config.ts'
import { type RunFlags, resolveFlags } from '../config/flags.ts'
import { describeConfig, loadConfig } from '../config/load.ts'
import { ConfigError, formatProblems } from '../config/problems.ts'
import { CommandError, EXIT, type ExitCode } from '../errors.ts'
import { type Gateway, startGateway } from '../gateway.ts'
import { createAccessWriter, createLogger, type Logger } from '../logger.ts'
import { describeRoutes, readyBanner } from './banner.ts'
import type { Io } from './io.ts'

export async function runGateway(given: RunFlags, io: Io): Promise<ExitCode> {
  const startedAt = io.clock.monotonic()
  const flags = resolveFlags(given, io.env)
  const load = () => loadConfig({ flags: given, env: io.env, cwd: io.cwd })
  const config = load()
  refuseUnsafeTls(io)
  if (config.warnings?.length) io.err(formatProblems(config.warnings))
  if (flags.dryRun) {
    for (const line of describeRoutes(config)) io.out(line)
    return EXIT.ok
  }
  const logging = openLogging(config, flags, io)
  const gateway = await startGateway({
    ...logging,
    config,
    startQuietly: logging.pretty,
    ...surroundings(io),
  })
  return serve(gateway, { ...logging, flags, startedAt, reload: load }, io)
}

function surroundings({ env, clock, version, nodeVersion }: Io) {
  return { env, clock, version, nodeVersion }
}

export interface Logging {
  readonly log: Logger
  readonly access: ReturnType<typeof createAccessWriter>
  readonly pretty: boolean
  readonly flush: () => void
}

export function openLogging(config: Config, flags: RunFlags, io: Io): Logging {
  const { format, level, access } = config.log
  const pretty = format === 'pretty' || (format === 'auto' && io.stdoutIsTerminal)
  const destination = io.logDestination(pretty)
  const options = {
    level: flags.quiet && level === 'info' ? ('warn' as const) : level,
    pretty,
    color: io.stderrColor,
    destination,
  }
  return {
    log: createLogger(options),
    access: createAccessWriter({ ...options, access }),
    pretty,
    flush: () => destination.flush?.(),
  }
}

interface ServeOptions extends Logging {
  readonly flags: RunFlags
  /** Monotonic milliseconds. */
  readonly startedAt: number
  readonly reload?: () => Config
  /** Where the configuration came from, when not from the file it names. */
  readonly configSource?: string
  /** Lines between the banner and the log. */
  readonly invitation?: (gateway: Gateway) => readonly string[]
}

/** From listening to stopped. Returns the exit code. */
export async function serve(gateway: Gateway, options: ServeOptions, io: Io): Promise<ExitCode> {
  const { flags, log } = options
  const stop = stopSignal(io, options.reload === undefined)
  if (options.reload !== undefined) watchReload(gateway, options.reload, log, io)
  await Promise.race([gateway.firstTokens, stop])
  if (flags.requireToken) {
    const failure = missingToken(gateway)
    if (failure !== undefined) {
      await gateway.close()
      throw failure
    }
  }
  announce(gateway, options, io)
  try {
    if (flags.readyFile !== undefined) writeReadyFile(flags.readyFile, gateway, io)
  } catch (error) {
    await gateway.close()
    throw error
  }

  const signal = await stop
  const inFlight = gateway.inFlight()
  if (options.pretty && !flags.quiet)
    io.err(
      `\n  stopping: ${inFlight} in flight${inFlight === 0 ? '' : `, up to ${gateway.config.shutdown.graceMs / 1000} s for them (Ctrl-C again stops at once)`}`,
    )
  const note = options.pretty ? 'debug' : 'info'
  log[note]({ signal, inFlight }, 'stopping')
  const removeReadyFile = () => {
    if (flags.readyFile !== undefined) rmSync(flags.readyFile, { force: true })
  }
  io.onStopSignal(again => {
    if (again === 'SIGTERM' && signal === 'SIGINT') return
    if (options.pretty && !flags.quiet) io.err(`  stopped, ${gateway.inFlight()} cut`)
    removeReadyFile()
    options.flush()
    io.exitNow(again === 'SIGINT' ? EXIT.interrupted : EXIT.drainTimeout)
  })
  const { graceMs } = gateway.config.shutdown
  const finished = await gateway.drain(graceMs)
  removeReadyFile()
  if (!finished) log.warn({ graceMs }, 'the time to finish ran out; open requests were cut')
  log[note]('stopped')
  options.flush()
  if (signal === 'SIGINT') return EXIT.interrupted
  return finished ? EXIT.ok : EXIT.drainTimeout
}

/** A terminal that closes sends SIGHUP: where there is nothing to reload, that is a stop as well. */
function stopSignal(io: Io, hangUpStops: boolean): Promise<'SIGINT' | 'SIGTERM'> {
  return new Promise(resolve => {
    io.onStopSignal(resolve)
    if (hangUpStops) io.onReloadSignal(() => resolve('SIGTERM'))
  })
}

function watchReload(gateway: Gateway, load: () => Config, log: Logger, io: Io): void {
  io.onReloadSignal(() => {
    try {
      gateway.reload(load())
    } catch (error) {
      gateway.reloadRefused()
      const detail = error instanceof ConfigError ? error.message : String(error)
      log.error({ detail }, 'configuration not reloaded; the one before stays in use')
    }
  })
}

function missingToken(gateway: Gateway): CommandError | undefined {
  for (const route of gateway.config.routes) {
    const state = gateway.tokenState(route.name)
    if (state?.usable) continue
    return new CommandError(
      EXIT.noToken,
      `no token for route ${route.name} (${route.scope}): ${state?.lastError?.detail ?? 'no answer'}`,
      state?.lastError?.remedy ?? 'Start without --require-token to keep trying.',
    )
  }
  return undefined
}

function announce(gateway: Gateway, options: ServeOptions, io: Io): void {
  const { log, pretty, flags, startedAt } = options
  const readyMs = Math.round(io.clock.monotonic() - startedAt)
  log[pretty ? 'debug' : 'info'](
    {
      listen: gateway.listeners.flatMap(listener => listener.addresses),
      admin: gateway.admin?.url,
      routes: gateway.config.routes.length,
      version: io.version,
      readyMs,
      config: describeConfig(gateway.config),
    },
    'ready',
  )
  if (!pretty || flags.quiet) {
    options.flush()
    return
  }
  const configSource = options.configSource ?? gateway.config.file ?? 'none (command line)'
  const facts = { readyMs, configSource, version: io.version, now: io.clock.now() }
  const lines = readyBanner(gateway, facts)
  for (const line of lines) io.out(line)
  for (const line of options.invitation?.(gateway) ?? []) io.out(line)
}

/** Whoever waits for the file must never read half of it. */
function writeReadyFile(path: string, gateway: Gateway, { pid, version }: Io): void {
  const content = { url: gateway.url, adminUrl: gateway.admin?.url ?? null, pid, version }
  const draft = `${path}.${pid}`
  try {
    writeFileSync(draft, `${JSON.stringify(content)}\n`, { mode: 0o600 })
    renameSync(draft, path)
  } catch (error) {
    throw new CommandError(
      EXIT.failure,
      `cannot write the ready file ${path} (${(error as NodeJS.ErrnoException).code})`,
      'Name a file in a directory this user may write to.',
      { cause: error },
    )
  }
}

/** With certificate checks off, the token would go to whoever answers. */
export function refuseUnsafeTls({ env }: Pick<Io, 'env'>): void {
  if (env['NODE_TLS_REJECT_UNAUTHORIZED'] !== '0') return
  throw new CommandError(
    EXIT.usage,
    'NODE_TLS_REJECT_UNAUTHORIZED=0 switches certificate checks off',
    'Unset it, and trust your own certificate authority with outbound.caFile or NODE_EXTRA_CA_CERTS.',
  )
}
