// What is wrong with a configuration, as one error that carries every problem, and as text for a person.

import { CommandError, EXIT } from '../errors.ts'
import type { ConfigProblem } from './config.ts'

/** Keys and indices from the root of the document. */
export type ConfigPath = readonly (string | number)[]

/** Notes a problem at a place of the document. `atKey`: the key is meant (a wrong or missing setting), not its value. */
export type Report = (
  path: ConfigPath,
  message: string,
  options?: { readonly atKey?: boolean; readonly severity?: 'warning' },
) => void

/** `routes[0].query.api-version`; keys that would confuse are quoted. */
export function formatPath(path: ConfigPath): string {
  return path
    .map(part =>
      typeof part === 'number'
        ? `[${part}]`
        : /^[\w$-]+$/.test(part)
          ? `.${part}`
          : `[${JSON.stringify(part)}]`,
    )
    .join('')
    .replace(/^\./, '')
}

export interface ConfigErrorOptions {
  /** The text of the file, for the code frames. */
  readonly source?: string | undefined
  /** True when there was neither a file nor a URL: not a mistake in anything, just nothing to run. */
  readonly unconfigured?: boolean
}

/** A configuration that cannot be used. `message` is ready to print: every problem, then the count. */
export class ConfigError extends CommandError {
  readonly problems: readonly ConfigProblem[]
  readonly unconfigured: boolean

  constructor(problems: readonly ConfigProblem[], options: ConfigErrorOptions = {}) {
    super(EXIT.usage, `bad configuration\n\n${formatProblems(problems, options.source)}`)
    this.name = 'ConfigError'
    this.problems = problems
    this.unconfigured = options.unconfigured ?? false
  }
}

/**
 * One block per problem (`file:line:col  path  message`, then the line of the file with the place
 * underlined), then a line with the counts. `source` is the text of the file the problems are in.
 */
export function formatProblems(problems: readonly ConfigProblem[], source?: string): string {
  const heads = problems.map(problem => [placeOf(problem), problem.path, textOf(problem)] as const)
  const placeWidth = Math.max(0, ...heads.map(([place]) => place.length))
  const pathWidth = Math.max(0, ...heads.map(([, path]) => Math.min(path.length, 32)))
  const blocks = problems.map((problem, i) => {
    const [place, path, text] = heads[i]!
    const head = [pad(place, placeWidth), pad(path, pathWidth), text].filter(part => part !== '').join('  ')
    return [head, ...frame(problem, source)].join('\n')
  })
  return [...blocks, countProblems(problems)].join('\n')
}

/** `2 errors`, `1 error, 1 warning`, … */
export function countProblems(problems: readonly ConfigProblem[]): string {
  const warnings = problems.filter(problem => problem.severity === 'warning').length
  const errors = problems.length - warnings
  const parts = [
    ...(errors > 0 || warnings === 0 ? [count(errors, 'error')] : []),
    ...(warnings > 0 ? [count(warnings, 'warning')] : []),
  ]
  return parts.join(', ')
}

/** The candidate a typo most likely meant (edit distance at most a third of its length), if any. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const wanted = word.toLowerCase()
  let best: string | undefined
  let bestDistance = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const distance = editDistance(wanted, candidate.toLowerCase())
    const allowed = Math.max(1, Math.floor(Math.max(wanted.length, candidate.length) / 3))
    if (distance <= allowed && distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** `; did you mean "x"?`, or nothing. */
export function didYouMean(word: string, candidates: readonly string[]): string {
  const candidate = nearest(word, candidates)
  return candidate === undefined ? '' : `; did you mean "${candidate}"?`
}

function placeOf({ file, line, column }: ConfigProblem): string {
  if (file === undefined) return ''
  return line === undefined ? file : `${file}:${line}:${column ?? 1}`
}

function textOf({ severity, message }: ConfigProblem): string {
  return severity === 'warning' ? `warning: ${message}` : message
}

function frame({ line, column, length }: ConfigProblem, source: string | undefined): string[] {
  if (source === undefined || line === undefined || column === undefined) return []
  const text = source.split(/\r?\n/)[line - 1]
  if (text === undefined) return []
  const number = String(line).padStart(5)
  // A tab in the indentation stays one, so that the marks stand under the text they mean.
  const indent = text.slice(0, column - 1).replace(/[^\t]/g, ' ')
  const marks = '^'.repeat(Math.max(1, Math.min(length ?? 1, text.length - column + 1)))
  return [`${number} | ${text}`, `${' '.repeat(number.length)} | ${indent}${marks}`]
}

function pad(text: string, width: number): string {
  return text.padEnd(width)
}

function count(n: number, word: string): string {
  return `${n} ${word}${n === 1 ? '' : 's'}`
}

/** Levenshtein distance where swapping two neighbours counts once. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, beforeLast[j - 2]! + 1)
      }
      row.push(cost)
    }
    beforeLast = last
    last = row
  }
  return last[b.length]!
}
