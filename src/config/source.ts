// A configuration file as text with places: parsed as YAML (JSON is a part of it), `${…}` expanded, and
// every key and value findable again by line and column.

import {
  type Document,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
  type YAMLError,
} from 'yaml'
import { type InterpolationSources, interpolate } from './interpolate.ts'
import type { ConfigPath } from './problems.ts'

/** Where something stands; line and column from 1, length in characters. */
export interface Place {
  readonly line: number
  readonly column: number
  readonly length: number
}

export interface SourceProblem extends Place {
  /** Empty when the syntax is broken there. */
  readonly path: ConfigPath
  readonly message: string
}

export interface Source {
  readonly text: string
  /** The parsed document; undefined when its syntax is broken. */
  readonly value: unknown
  readonly problems: readonly SourceProblem[]
  /** Variables the file asks for. */
  readonly variables: ReadonlySet<string>
  /** What came out of `${file:…}`: never to be repeated in a message. */
  readonly secrets: readonly string[]
  /** The place of a value or of its key; of the nearest setting around it when it is not written. */
  locate(path: ConfigPath, atKey: boolean): Place
}

/** Parses a file and expands its strings. Broken syntax is a problem, not an exception. */
export function parseSource(text: string, sources: InterpolationSources): Source {
  const lines = new LineCounter()
  const place = (start: number, end: number): Place => {
    const { line, col } = lines.linePos(start)
    return { line: Math.max(line, 1), column: Math.max(col, 1), length: Math.max(1, end - start) }
  }
  const variables = new Set<string>()
  const secrets: string[] = []
  const problems: SourceProblem[] = []
  const source = { text, problems, variables, secrets }
  let document: Document
  let isBroken = false
  try {
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, strict: true })
  } catch (error) {
    problems.push({ ...place(0, 1), path: [], message: `cannot be read as YAML: ${messageOf(error)}` })
    return { ...source, value: undefined, locate: () => place(0, 1) }
  }
  for (const error of [...document.errors, ...document.warnings]) {
    const isSyntax = error.code !== 'DUPLICATE_KEY'
    // What follows a broken place is mostly its echo.
    if (isSyntax && isBroken) continue
    const [start, end] = error.pos
    problems.push({ ...place(start, end), path: [], message: syntaxMessage(error, text) })
    isBroken ||= isSyntax
  }
  visit(document, {
    Scalar(key, node, ancestors) {
      if (key === 'key' || typeof node.value !== 'string') return
      const result = interpolate(node.value, sources)
      node.value = result.value
      for (const name of result.variables) variables.add(name)
      secrets.push(...result.secrets)
      const [start, end] = node.range ?? [0, 1]
      const path = pathOf([...ancestors, node])
      for (const message of result.problems) problems.push({ ...place(start, end), path, message })
    },
  })
  const locate = (path: ConfigPath, atKey: boolean) => place(...rangeOf(document, path, atKey))
  if (isBroken) return { ...source, value: undefined, locate }
  try {
    return { ...source, value: document.toJS(), locate }
  } catch (error) {
    problems.push({ ...place(0, 1), path: [], message: `cannot be read as YAML: ${messageOf(error)}` })
    return { ...source, value: undefined, locate }
  }
}

function rangeOf(document: Document, path: ConfigPath, atKey: boolean): [number, number] {
  let node = document.contents as unknown
  let key: unknown
  let found = 0
  for (const part of path) {
    const container = isAlias(node) ? node.resolve(document) : node
    if (isMap(container)) {
      const pair = container.items.find(item => isScalar(item.key) && String(item.key.value) === String(part))
      if (pair === undefined) break
      key = pair.key
      node = pair.value
    } else if (isSeq(container)) {
      const item = container.items[Number(part)]
      if (item === undefined) break
      key = undefined
      node = item
    } else break
    found++
  }
  if (found === path.length && !atKey) return span(node) ?? span(key) ?? [0, 1]
  if (key !== undefined) return span(key) ?? [0, 1]
  // A list item has no key: its first setting stands for it.
  const container = isAlias(node) ? node.resolve(document) : node
  return (isMap(container) ? span(container.items[0]?.key) : undefined) ?? span(node) ?? [0, 1]
}

/** The keys and indices on the way through `nodes`, from the document down. */
function pathOf(nodes: readonly unknown[]): ConfigPath {
  return nodes.flatMap((node, i): (string | number)[] => {
    if (isPair(node)) return isScalar(node.key) ? [String(node.key.value)] : []
    return isSeq(node) ? [node.items.indexOf(nodes[i + 1])] : []
  })
}

/** The offsets of a node; undefined when it is empty. */
function span(node: unknown): [number, number] | undefined {
  const range = (node as Node | null | undefined)?.range
  return range && range[1] > range[0] ? [range[0], range[1]] : undefined
}

function syntaxMessage(error: YAMLError, text: string): string {
  if (error.code === 'DUPLICATE_KEY') {
    const key = text.slice(error.pos[0]).split(/[:\s]/, 1)[0] ?? ''
    return `"${key}" is written twice; remove one of them`
  }
  if (error.code === 'TAB_AS_INDENT') return 'a tab cannot indent in YAML; use spaces'
  if (error.code === 'MULTIPLE_DOCS') return 'a second document begins here; keep one, without "---" between'
  const [start] = error.pos
  if (text.startsWith('${', start - 1)) return `a value with \${…} needs quotes inside { } and [ ]`
  if (text.startsWith(']:', start - 1)) return 'an address with [ ] needs quotes, such as "[::1]:8656"'
  return `broken YAML: ${error.message}; check the indentation, quotes and brackets here`
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
