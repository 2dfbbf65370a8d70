// The request-target: which spellings are refused, and the path and query that go to the upstream.
// Bytes are kept as they came; what is sent is what was checked.

import { GatewayError } from '../errors.ts'

/** Nothing to decode and nothing to refuse but dot segments: the spelling of nearly every request. */
const PLAIN = /^[A-Za-z0-9\-_~!$&'()*+,;=:@/.]*$/
const DOT_SEGMENT = /(?:^|\/)\.{1,2}(?:\/|$)/
const BROKEN_ESCAPE = /%(?![0-9A-Fa-f]{2})/
const ENCODED_CONTROL = /%(?:[01][0-9A-Fa-f]|7[Ff])/
const ENCODED_SEPARATOR = /%(?:2[Ff]|5[Cc])/
const NOT_URL_BYTE = /[\x00-\x20\x7f-\uffff#\\]/
const NOT_QUERY_BYTE = /[\x00-\x20\x7f-\uffff#]/

export interface SplitTarget {
  readonly path: string
  /** '' or starts with '?'. */
  readonly query: string
}

/** Splits an origin-form target at its first '?'. Throws `bad_request_target` for any other form. */
export function splitTarget(url: string): SplitTarget {
  if (url.charCodeAt(0) !== 0x2f) {
    throw new GatewayError(
      'bad_request_target',
      'The request-target is not a path.',
      'Send the path only, as in `GET /jobs HTTP/1.1`.',
    )
  }
  const mark = url.indexOf('?')
  return mark < 0
    ? { path: url, query: '' }
    : { path: url.slice(0, mark), query: mark === url.length - 1 ? '?' : url.slice(mark) }
}

/**
 * Throws `path_refused` for what two readers could read differently: dot segments in any encoding, a
 * raw backslash or '#', control or non-ASCII bytes, broken escapes (RFC 3986 section 3.3, 6.2.2).
 */
export function checkPath(path: string): void {
  if (PLAIN.test(path)) {
    if (path.includes('/.') && DOT_SEGMENT.test(path)) throw refuse('a dot segment')
    return
  }
  if (NOT_URL_BYTE.test(path)) throw refuse('a backslash, "#", blank, control or non-ASCII byte')
  if (BROKEN_ESCAPE.test(path)) throw refuse('a "%" that is not followed by two hexadecimal digits')
  if (ENCODED_CONTROL.test(path)) throw refuse('an encoded control byte')
  // One decoding, and both separators: what an upstream could take for a dot segment.
  const decoded = path.replace(/%2[Ee]/g, '.').replace(/%2[Ff]|%5[Cc]/g, '/')
  if (DOT_SEGMENT.test(decoded)) throw refuse('a dot segment')
}

/** Throws `path_refused` for bytes that may not stand in a query. Escapes in it are the upstream's matter. */
export function checkQuery(query: string): void {
  if (NOT_QUERY_BYTE.test(query)) throw refuse('a "#", blank, control or non-ASCII byte in its query')
}

/** On a route with a path list the path decides what is permitted: no second reading of it may exist. */
export function checkSeparators(path: string): void {
  if (ENCODED_SEPARATOR.test(path)) {
    throw refuse('an encoded separator (%2F or %5C), which a route with a `paths` list does not take')
  }
}

function refuse(what: string): GatewayError {
  return new GatewayError(
    'path_refused',
    `The path has ${what}.`,
    'Send the path in its plain form, each byte outside the URL alphabet percent-encoded once.',
  )
}
