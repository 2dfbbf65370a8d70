#!/usr/bin/env node
// argv to command to exit code. The only file that touches `process`.

import pino from 'pino'
import pkg from '../package.json' with { type: 'json' }
import { systemClock } from './clock.ts'
import type { Io, StopSignal } from './commands/io.ts'
import { runCommandLine } from './commands/program.ts'

/** JSON log lines wait for so many bytes, or so many milliseconds, before they are written. */
const LOG_BUFFER_BYTES = 4_096
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
    const destination = pino.destination({ dest: 1, sync: true, minLength: LOG_BUFFER_BYTES })
    // A reader that has gone must not take the gateway with it.
    destination.on('error', () => {})
    const timer = setInterval(() => destination.flush(), LOG_FLUSH_MS)
    timer.unref()
    return {
      write: line => void destination.write(line),
      flush: () => destination.flushSync(),
    }
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
  exitNow: code => process.exit(code),
}

for (const stream of [stdout, stderr]) stream.on('error', () => {})

const exitCode = await runCommandLine(process.argv.slice(2), io)
// Not process.exit: what is still to be written is written.
process.exitCode = exitCode
