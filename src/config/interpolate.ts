// `${…}` in the string values of a configuration file. It runs after parsing, so that what a variable
// holds can never change the shape of the document.

export interface InterpolationSources {
  /** The variable's value; undefined when it is not set. */
  readonly variable: (name: string) => string | undefined
  /** The text of a file; throws when it cannot be read. */
  readonly file: (path: string) => string
}

export interface Interpolated {
  readonly value: string
  /** What could not be expanded, each a sentence. `value` is of no use when there are any. */
  readonly problems: readonly string[]
  /** Names of the variables that were asked for. */
  readonly variables: readonly string[]
  /** What came out of files: never to be repeated in a message. */
  readonly secrets: readonly string[]
}

const EXPRESSION = /\$\$|\$\{([^}]*)(\}?)/g
const VARIABLE = /^([A-Za-z_][A-Za-z0-9_]*)(?::([-?])(.*))?$/s

/**
 * Expands `${VAR}`, `${VAR:-default}`, `${VAR:?message}`, `${file:/path}` (one newline at its end is
 * dropped) and `$$` (a dollar sign). As in a shell, an empty variable counts as missing for `:-` and
 * `:?`, not for the plain form. A dollar sign before anything else stands for itself.
 */
export function interpolate(text: string, sources: InterpolationSources): Interpolated {
  const problems: string[] = []
  const variables: string[] = []
  const secrets: string[] = []
  const value = text.replace(EXPRESSION, (whole: string, inner: string | undefined, close: string) => {
    if (inner === undefined) return '$'
    if (close === '') {
      problems.push(`"${whole}" has no closing brace; write $$ for a dollar sign`)
      return ''
    }
    if (inner.startsWith('file:')) return readSecret(inner.slice('file:'.length))
    const match = VARIABLE.exec(inner)
    if (match === null || match[3]?.includes('${')) {
      problems.push(
        `"${whole}" is not understood; write \${VAR}, \${VAR:-default}, \${VAR:?message} or \${file:/path} (not nested), and $$ for a dollar sign`,
      )
      return ''
    }
    return readVariable(match[1]!, match[2], match[3] ?? '')
  })
  return { value, problems, variables, secrets }

  function readVariable(name: string, operator: string | undefined, argument: string): string {
    variables.push(name)
    const found = sources.variable(name)
    if (operator === undefined && found !== undefined) return found
    if (operator !== undefined && found !== undefined && found !== '') return found
    if (operator === '-') return argument
    const why = operator === '?' && argument !== '' ? `: ${argument}` : ''
    const empty = found === '' ? 'is empty' : 'is not set'
    problems.push(
      `environment variable ${name} ${empty}${why}; set it, or give a default: \${${name}:-value}`,
    )
    return ''
  }

  function readSecret(path: string): string {
    try {
      const content = sources.file(path).replace(/\r?\n$/, '')
      secrets.push(content)
      return content
    } catch (error) {
      problems.push(`cannot read ${path} (${codeOf(error)}); check the path and its permissions`)
      return ''
    }
  }
}

function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error) return String(error.code)
  return error instanceof Error ? error.message : String(error)
}
