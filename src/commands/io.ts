// What a command has of the process around it. main.ts makes the real one.

import type { DestinationStream } from 'pino'
import type { Clock } from '../clock.ts'
import type { Environment } from '../config/flags.ts'

export type StopSignal = 'SIGINT' | 'SIGTERM'

export interface Io {
  readonly env: Environment
  /** Changes `env` itself: the identity library reads it on its own. Undefined unsets. */
  readonly setEnv: (name: string, value: string | undefined) => void
  readonly cwd: string
  readonly pid: number
  readonly version: string
  readonly nodeVersion: string
  readonly clock: Clock
  /** Whether a person reads stdout, and whether colour is welcome there. */
  readonly stdoutIsTerminal: boolean
  readonly stderrColor: boolean
  readonly stdoutColor: boolean
  /** Writes a line. */
  readonly out: (line: string) => void
  readonly err: (line: string) => void
  /** Whole log lines: JSON to stdout, buffered; readable ones to stderr. */
  readonly logDestination: (pretty: boolean) => DestinationStream & { flush?: () => void }
  /** Calls `handler` at each SIGINT and SIGTERM. */
  readonly onStopSignal: (handler: (signal: StopSignal) => void) => void
  readonly onReloadSignal: (handler: () => void) => void
  /** Calls `task`, which must be synchronous, when the process ends, however it does. */
  readonly onExit: (task: () => void) => void
  /** Ends the process at once: the second Ctrl-C. */
  readonly exitNow: (code: number) => never
}
