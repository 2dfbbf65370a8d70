#!/usr/bin/env node
// argv to command to exit code. The only file that touches `process`.

import { writeSync } from 'node:fs'
import pkg from '../package.json' with { type: 'json' }
import { systemClock } from './clock.ts'
import type { Io, StopSignal } from './commands/io.ts'
import { runCommandLine } from './commands/program.ts'
import { gatherLines } from './log-output.ts'

/** How long a JSON log line may wait before it is written. */
const LOG_FLUSH_MS = 250

const { env, stdout, stderr } = process
const stopHandlers: ((signal: StopSignal) => void)[] = []

const io: Io = {
  env,
  setEnv(name, value) {
    if (value === undefined) delete env[name]
    else env[name] = value
  },
  cwd: process.cwd(),
  pid: process.pid,
  version: pkg.version,
  nodeVersion: process.versions.node,
  clock: systemClock,
  stdoutIsTerminal: stdout.isTTY === true,
  stderrColor: stderr.isTTY === true && !env['NO_COLOR'],
  stdoutColor: stdout.isTTY === true && !env['NO_COLOR'],
  out: line => stdout.write(`${line}\n`),
  err: line => stderr.write(`${line}\n`),
  logDestination(pretty) {
    if (pretty) return { write: line => stderr.write(line) }
    const output = gatherLines(bytes => writeSync(1, bytes))
    setInterval(output.flush, LOG_FLUSH_MS).unref()
    return output
  },
  onStopSignal(handler) {
    if (stopHandlers.length === 0) {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) {
        process.on(signal, () => {
          for (const each of [...stopHandlers]) each(signal)
        })
      }
    }
    stopHandlers.push(handler)
  },
  onReloadSignal: handler => void process.on('SIGHUP', handler),
  onExit: task => void process.on('exit', task),
  exitNow: code => process.exit(code),
}

for (const stream of [stdout, stderr]) stream.on('error', () => {})

const exitCode = await runCommandLine(process.argv.slice(2), io)
// Not process.exit: what is still to be written is written.
process.exitCode = exitCode
