// `entra-proxy check [FILE]`: what `run` would do with this configuration, or everything that is wrong
// with it. Nothing is opened or called but the file itself and those it quotes.

import { examineConfig } from '../config/load.ts'
import { countProblems, formatProblems } from '../config/problems.ts'
import { EXIT, type ExitCode } from '../errors.ts'
import { describeRoutes } from './banner.ts'
import type { Io } from './io.ts'

export interface CheckOptions {
  /** The file to look at; else the one `run` would find. */
  readonly file?: string
}

/** Exit code 0 when `run` would start with it, warnings or not; 2 when not. */
export function runCheck(options: CheckOptions, io: Pick<Io, 'env' | 'cwd' | 'out' | 'err'>): ExitCode {
  const { config, problems, source, file } = examineConfig({
    flags: { config: options.file },
    env: io.env,
    cwd: io.cwd,
  })
  if (problems.length > 0) io.err(formatProblems(problems, source))
  if (config === undefined) return EXIT.usage
  const count = `${config.routes.length} route${config.routes.length === 1 ? '' : 's'}`
  const warnings = problems.length > 0 ? [countProblems(problems)] : []
  io.out(['ok', file ?? '(no file)', count, ...warnings].join('  '))
  for (const line of describeRoutes(config)) io.out(`  ${line}`)
  return EXIT.ok
}
