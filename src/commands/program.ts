// The command line: which commands and flags there are, and which function each leads to.

import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import type { RunFlags } from '../config/flags.ts'
import { ConfigError } from '../config/problems.ts'
import { CommandError, EXIT, type ExitCode } from '../errors.ts'
import type { Io } from './io.ts'

const EXAMPLES = `
Examples:
  entra-proxy https://contoso.westeurope.batch.azure.com
  entra-proxy run -r /batch=https://contoso.westeurope.batch.azure.com -r /score=https://fraud.westeurope.inference.ml.azure.com/score
  entra-proxy run --config entra-proxy.yaml
  entra-proxy demo`

const EXIT_CODES = `
Exit codes:
  0 ok, also a clean stop by SIGTERM    4 no token
  1 runtime failure                     6 address in use                 130 stopped by Ctrl-C
  2 usage or configuration error                                         143 requests cut at shutdown

Every flag of run can also be set as ENTRA_PROXY_<FLAG>, for example ENTRA_PROXY_CLIENT_ID.
Precedence: flag > environment > file > default.`

const NOTHING_TO_RUN = [
  'entra-proxy: there is nothing to run: no URL was given and there is no entra-proxy.yaml',
  '',
  '  entra-proxy https://contoso.westeurope.batch.azure.com    a gateway to this account on http://localhost:8656',
  '  entra-proxy demo                                          try it offline, without an Azure account',
  '',
  '  entra-proxy help run                                      all flags',
]

/** Runs the command `argv` names (without node and script) and returns the exit code. */
export async function runCommandLine(argv: readonly string[], io: Io): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok
  const program = buildProgram(io, code => {
    exitCode = code
  })
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    if (error instanceof ConfigError && error.unconfigured) {
      for (const line of NOTHING_TO_RUN) io.err(line)
      return EXIT.usage
    }
    if (error instanceof CommandError) {
      io.err(`entra-proxy: ${error.message}`)
      if (error.remedy !== '') io.err(`\n  fix  ${error.remedy}`)
      return error.exitCode
    }
    throw error
  }
}

function buildProgram(io: Io, done: (code: ExitCode) => void): Command {
  const program = new Command('entra-proxy')
    .description('A local HTTP gateway that signs requests to Azure with Microsoft Entra tokens.')
    .version(`entra-proxy ${io.version}`, '-v, --version')
    .helpCommand('help [command]', 'show help')
    .showSuggestionAfterError(true)
    .exitOverride()
    .configureOutput({
      writeOut: text => io.out(text.replace(/\n$/, '')),
      writeErr: text => io.err(text.replace(/^error: /, 'entra-proxy: ').replace(/\n$/, '')),
    })
    .addHelpText('after', EXAMPLES + EXIT_CODES)
    .enablePositionalOptions()

  runCommand(program, io, done)
  program
    .command('demo')
    .description(
      'run the gateway in front of an offline stand-in of Entra, IMDS, Batch and ML: no Azure account needed',
    )
    .option('--once', 'make the tour by itself, print each step, exit 0 (1 on a mismatch)')
    .option('-p, --port <n>', 'port of the gateway', wholeNumber)
    .option('--admin-listen <addr>', 'admin address, or off')
    .option('--token-life <seconds>', 'life of the tokens the stand-in issues', wholeNumber)
    .action(async options => {
      const { runDemo } = await import('./demo.ts')
      done(await runDemo(options, io))
    })
  program
    .command('check')
    .description('check a configuration offline: every problem at once, with file, line and column')
    .argument('[file]', 'default: the file `run` would find')
    .action(async (file: string | undefined) => {
      const { runCheck } = await import('./check.ts')
      done(runCheck(file === undefined ? {} : { file }, io))
    })
  program
    .command('schema')
    .description('print the JSON Schema of the configuration file')
    .action(async () => {
      const { runSchema } = await import('./schema.ts')
      done(runSchema(io))
    })
  program
    .command('version')
    .description('print the version')
    .option('--json', 'as JSON')
    .action((options: { json?: boolean }) => {
      const { version, nodeVersion } = io
      io.out(
        options.json
          ? JSON.stringify({ version, node: nodeVersion })
          : `entra-proxy ${version}  (Node ${nodeVersion})`,
      )
    })
  for (const command of program.commands) command.exitOverride().copyInheritedSettings(program)
  return program
}

function runCommand(program: Command, io: Io, done: (code: ExitCode) => void): void {
  program
    .command('run', { isDefault: true })
    .description('start the gateway in the foreground (the default command)')
    .argument('[url]', 'the upstream, mounted at /; no configuration file is needed')
    .option('-c, --config <file>', 'configuration file')
    .option('-r, --route <path=url>', 'a route; repeatable', collect)
    .option('--preset <name>', 'auto, batch, ml-online, ml-batch, arm or custom')
    .option('--scope <scope>', 'what Entra is asked for, such as api://…/.default')
    .option('--credential <type>', 'auto, managed-identity, workload-identity, client-secret, azure-cli, …')
    .option('--client-id <id>', 'client id of the identity')
    .option('--tenant-id <id>', 'tenant of the identity')
    .option('-l, --listen <addr>', 'gateway address (default localhost:8656)')
    .option('-p, --port <n>', 'gateway port; 0 takes a free one', wholeNumber)
    .option('--admin-listen <addr>', 'admin address (default localhost:8657), or off')
    // There is no inspector yet: switching it on is answered by the configuration.
    .addOption(new Option('--inspect').hideHelp())
    .addOption(new Option('--no-inspect').hideHelp())
    .option('--require-token', 'exit 4 when a route gets no token at start')
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent')
    .option('--log-format <format>', 'auto, pretty or json')
    .option('-q, --quiet', 'no banner, warnings and errors only')
    .option('--ready-file <path>', 'write {"url","adminUrl","pid","version"} here once ready')
    .option('--dry-run', 'print the effective routes and exit')
    .addHelpText('after', EXAMPLES)
    .action(async (url: string | undefined, options: Omit<RunFlags, 'upstream'>) => {
      refuseMistypedCommand(url, program)
      const { runGateway } = await import('./run.ts')
      done(await runGateway({ ...options, upstream: url }, io))
    })
}

/** `run` is the default command, so a mistyped command arrives as its URL. */
function refuseMistypedCommand(word: string | undefined, program: Command): void {
  if (word === undefined || /[.:/]/.test(word)) return
  const names = program.commands.map(command => command.name())
  throw new CommandError(
    EXIT.usage,
    `${JSON.stringify(word)} is neither a command nor a URL`,
    `Commands: ${names.join(', ')}, help. A URL looks like https://contoso.westeurope.batch.azure.com.`,
  )
}

function collect(value: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, value]
}

function wholeNumber(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value)
  throw new InvalidArgumentError('Give a whole number.')
}
