// Which headers a route may set or remove: valid ones (RFC 9110 sections 5.1 and 5.5), and never those
// that frame a message, belong to one connection, or are the gateway's own business.

import type { HeaderRules } from './config.ts'
import type { ConfigPath, Report } from './problems.ts'
import type { RouteDocument } from './schema.ts'

type Direction = 'request' | 'response'

const RESERVED: Readonly<Record<string, string>> = {
  authorization: "is what the gateway sets; choose the route's credential and scope instead",
  host: 'follows from the upstream; change the upstream instead',
  connection: 'belongs to one connection; remove it',
  'keep-alive': 'belongs to one connection; remove it',
  te: 'belongs to one connection; remove it',
  trailer: 'belongs to one connection; remove it',
  upgrade: 'belongs to one connection; remove it',
  'http2-settings': 'belongs to one connection; remove it',
  'content-length': 'frames the body; remove it',
  'transfer-encoding': 'frames the body; remove it',
  expect: 'is answered by the gateway; remove it',
}

/** Further ones in one direction. */
const RESERVED_BACK: Readonly<Record<string, string>> = {
  'content-encoding': 'says how the body is coded; remove it',
  'set-cookie': 'never passes the gateway; remove it',
}

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const VALUE = /^([!-~]([ \t!-~]*[!-~])?)?$/

export function resolveHeaderRules(
  rules: RouteDocument['requestHeaders'],
  direction: Direction,
  at: ConfigPath,
  report: Report,
): HeaderRules {
  const seen = new Set<string>()
  for (const [name, value] of Object.entries(rules.set)) {
    const place = [...at, 'set', name]
    const problem = refuseName(name, direction)
    if (problem !== undefined) report(place, problem, { atKey: true })
    else if (seen.has(name.toLowerCase())) {
      report(place, 'is set twice, in other letters; remove one', { atKey: true })
    }
    // The value may be a secret, so it is not repeated.
    if (!VALUE.test(value)) {
      report(place, 'this is no header value; use visible ASCII characters, spaces and tabs only inside')
    }
    seen.add(name.toLowerCase())
  }
  for (const [i, name] of rules.remove.entries()) {
    const problem = refuseName(name, direction)
    if (problem !== undefined) report([...at, 'remove', i], problem)
  }
  return { set: rules.set, remove: rules.remove.map(name => name.toLowerCase()) }
}

function refuseName(name: string, direction: Direction): string | undefined {
  if (!NAME.test(name)) return `"${name}" is not a header name; use letters, digits and hyphens`
  const lower = name.toLowerCase()
  if (/^(proxy-|x-entra-proxy-)/.test(lower)) return `"${name}" is the gateway's own; remove it`
  const why = Object.hasOwn(RESERVED, lower)
    ? RESERVED[lower]
    : direction === 'response' && Object.hasOwn(RESERVED_BACK, lower)
      ? RESERVED_BACK[lower]
      : undefined
  return why === undefined ? undefined : `"${name}" ${why}`
}
