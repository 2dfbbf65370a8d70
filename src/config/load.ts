// From flags, environment and file to the configuration in force, or to every problem at once.

import type { Config } from './config.ts'
import type { Environment, RunFlags } from './flags.ts'

export interface ConfigInput {
  readonly flags: RunFlags
  readonly env: Environment
  /** Where `./entra-proxy.yaml` is looked for, and what relative paths of flags start from. */
  readonly cwd: string
  /** Reads a text file, throws as `readFileSync` does; replaced in tests. */
  readonly readFile?: (path: string) => string
}

/** The configuration in force, with its warnings. Throws a ConfigError that carries every problem. */
export function loadConfig(_input: ConfigInput): Config {
  throw new Error('being written')
}
