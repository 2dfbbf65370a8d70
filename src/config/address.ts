// Addresses as people write them: where the gateway listens and where a route leads. Parsed by hand,
// because a URL parser repairs what should be refused (backslashes, `https:/host`, 0x7f.1, user:password@).

import { isIPv4, isIPv6 } from 'node:net'
import { domainToASCII } from 'node:url'
import type { ListenAddress, Upstream } from './config.ts'

/** Either the parsed value or a sentence that says what to write instead. */
export type Parsed<T> = { readonly value: T } | { readonly problem: string }

/** The longest path a Unix socket can have on Linux (sun_path less its final NUL). */
const MAX_SOCKET_PATH = 107

/** `host:port`, `[::1]:port` or `unix:/path`. Port 0 takes a free one. */
export function parseListen(text: string): Parsed<ListenAddress> {
  if (text.startsWith('unix:')) return parseSocketPath(text)
  if (text.includes('://')) {
    return refuse(`${show(text)} is a URL; write only host:port, such as localhost:8656`)
  }
  if (/^\d+$/.test(text)) {
    return refuse(`${show(text)} is only a port; write localhost:${text}`)
  }
  if (/^:\d+$/.test(text)) {
    return refuse(
      `${show(text)} has no host; write localhost${text}, or 0.0.0.0${text} for every address of this machine (needs security.allowRemote)`,
    )
  }
  const match = /^(\[[^\]]*\]|[^:[\]]+):(\d{1,5})$/.exec(text)
  if (match === null) {
    if (isIPv6(text.replace(/:\d+$/, '')) || isIPv6(text)) {
      return refuse(`${show(text)} needs brackets around the IPv6 address; write [::1]:8656`)
    }
    if (/^[^:/[\]]+$|^\[[^\]]*\]$/.test(text)) {
      return refuse(`${show(text)} has no port; write ${text}:8656`)
    }
    return refuse(`${show(text)} is not an address; write host:port (localhost:8656) or unix:/path`)
  }
  const host = parseHost(match[1]!)
  if ('problem' in host) return host
  const port = Number(match[2])
  if (port > 65_535) return refuse(`port ${port} is out of range; write 0 to 65535`)
  return { value: { kind: 'tcp', host: host.value.replace(/^\[|\]$/g, ''), port } }
}

function parseSocketPath(text: string): Parsed<ListenAddress> {
  const path = text.slice('unix:'.length)
  if (!path.startsWith('/') || path.endsWith('/') || path.includes('\0')) {
    return refuse(
      `${show(text)} is not a socket; write unix: and an absolute path, such as unix:/run/entra-proxy.sock`,
    )
  }
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    return refuse(
      `the socket path is longer than the ${MAX_SOCKET_PATH} bytes a system takes; choose a shorter one`,
    )
  }
  return { value: { kind: 'unix', path } }
}

/** `localhost:8656`, `[::1]:8656`, `unix:/path`. */
export function formatListen(address: ListenAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
}

/** True when only programs of this machine can reach it. */
export function isLocalListen(address: ListenAddress): boolean {
  return address.kind === 'unix' || isLoopbackHost(address.host)
}

/** `localhost`, 127.0.0.0/8 and ::1, with or without brackets. No name is resolved. */
export function isLoopbackHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '')
  return bare === 'localhost' || bare === '::1' || (isIPv4(bare) && bare.startsWith('127.'))
}

/** True when a program could not open both: same port and hosts that share an address, or one socket path. */
export function isSameListen(a: ListenAddress, b: ListenAddress): boolean {
  if (a.kind === 'unix' || b.kind === 'unix') {
    return a.kind === 'unix' && b.kind === 'unix' && a.path === b.path
  }
  return a.port === b.port && a.port !== 0 && sharesAddress(a.host, b.host)
}

/** True when a request to `upstream` would come back to `listener`. No name is resolved. */
export function leadsTo(upstream: Upstream, listener: ListenAddress): boolean {
  if (listener.kind === 'unix' || listener.port === 0) return false
  const bare = upstream.hostname.replace(/^\[|\]$/g, '')
  return portOf(upstream) === listener.port && sharesAddress(bare, listener.host)
}

/** The port an upstream is called on, the scheme's own when none is written. */
export function portOf(upstream: Upstream): number {
  const written = /:(\d+)$/.exec(upstream.host)
  if (written !== null) return Number(written[1])
  return upstream.origin.startsWith('http:') ? 80 : 443
}

function sharesAddress(a: string, b: string): boolean {
  if (a === b) return true
  const everyA = a === '0.0.0.0' || a === '::'
  const everyB = b === '0.0.0.0' || b === '::'
  if (everyA && everyB) return true
  // A wildcard holds the addresses of this machine; of the other hosts only loopback is known to be one.
  if (everyA || everyB)
    return isLoopbackHost(everyA ? b : a) || isIPv4(everyA ? b : a) || isIPv6(everyA ? b : a)
  const localhost = (one: string, other: string) =>
    one === 'localhost' && (other === '127.0.0.1' || other === '::1')
  return localhost(a, b) || localhost(b, a)
}

// RFC 3986 section 3.3: a path of segments, percent-encoded where needed.
const UPSTREAM_PATH = /^(\/([A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+)*$/

/**
 * An upstream: `https://host[:port][/base/path]`. Without a scheme it is https (ARM's accountEndpoint
 * has none). A trailing slash is dropped and the host is lower-cased; nothing else is repaired.
 */
export function parseUpstream(text: string): Parsed<Upstream> {
  const split = /^(?:([^:/?#[\]@\\]*):\/\/)?([^/?#\\]*)(.*)$/s.exec(text)
  const [, scheme = 'https', authority = '', rest = ''] = split ?? []
  const protocol = scheme.toLowerCase()
  if (protocol !== 'https' && protocol !== 'http') {
    return refuse(`${show(scheme)} is not a scheme it can call; write https://host`)
  }
  if (/^https?:$/i.test(authority)) return refuse(`${show(text)} lacks a slash; write https://host`)
  if (authority === '') return refuse(`${show(text)} has no host; write https://host or https://host/path`)
  if (authority.includes('@')) {
    return refuse(
      'a user name or password does not belong here; write https://host and choose a credential instead',
    )
  }
  const match = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/s.exec(authority)
  if (match === null)
    return refuse(`${show(authority)} is not a host; write https://host or https://host:port`)
  const host = parseHost(match[1]!)
  if ('problem' in host) return host
  const port = match[2] === undefined ? undefined : parsePort(match[2])
  if (port !== undefined && 'problem' in port) return port
  if (/[?#]/.test(rest)) {
    return refuse(
      'a query or fragment does not belong here; write the URL up to its path, and fixed parameters under "query"',
    )
  }
  const path = rest.replace(/\/$/, '')
  if (!UPSTREAM_PATH.test(path)) {
    return refuse(
      `the path ${show(rest)} has empty segments or characters that need escaping; write /segment/segment`,
    )
  }
  if (hasDotSegment(path))
    return refuse(`the path ${show(rest)} has dot segments; write the path they lead to`)
  const isDefault = port === undefined || port.value === (protocol === 'https' ? 443 : 80)
  const withPort = isDefault ? host.value : `${host.value}:${port.value}`
  return {
    value: { origin: `${protocol}://${withPort}`, hostname: host.value, host: withPort, basePath: path },
  }
}

/** True when a segment is `.` or `..`, dots percent-encoded or not. */
export function hasDotSegment(path: string): boolean {
  return path.split('/').some(segment => /^(\.|%2e){1,2}$/i.test(segment))
}

/** `https://host/path`, as a person would write it. */
export function formatUpstream(upstream: Upstream): string {
  return upstream.origin + upstream.basePath
}

function parsePort(text: string): Parsed<number> {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  return port >= 1 && port <= 65_535
    ? { value: port }
    : refuse(`${show(text)} is not a port; write a number from 1 to 65535`)
}

const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/

/** A host name or IP address, lower-cased; IPv6 keeps its brackets and gets its shortest form. */
export function parseHost(text: string): Parsed<string> {
  if (text.startsWith('[')) {
    const address = text.slice(1, -1)
    if (!/^[0-9a-fA-F:.]+$/.test(address) || !isIPv6(address)) {
      return refuse(`${show(text)} is not an IPv6 address; write it as in [::1], without a zone`)
    }
    return { value: new URL(`http://${text}/`).hostname }
  }
  const ascii = toASCII(text)
  if (ascii === undefined) {
    return refuse(
      `${show(text)} has characters that only look like ASCII ones; write the host name in plain letters`,
    )
  }
  if (ascii.endsWith('.')) return refuse(`${show(text)} ends in a dot; write the host name without it`)
  const labels = ascii.split('.')
  if (ascii.length > 253 || !labels.every(label => LABEL.test(label))) {
    return refuse(`${show(text)} is not a host name; write it as in contoso.westeurope.batch.azure.com`)
  }
  // 0x7f.1 and 2130706433 are 127.0.0.1 to a URL parser, so a name that ends in a number has to be
  // four plain ones (WHATWG URL, "ends in a number").
  if (/^(\d+|0x[0-9a-f]*)$/.test(labels.at(-1)!) && !isIPv4(ascii)) {
    return refuse(`${show(text)} is not an IP address; write four decimal numbers, such as 127.0.0.1`)
  }
  return { value: ascii }
}

/** The ASCII form of a host name; undefined when a label only *maps* to ASCII (full-width letters, `。`). */
function toASCII(text: string): string | undefined {
  if (/^[\x00-\x7f]*$/.test(text)) return text.toLowerCase()
  const labels = text.split('.').map(label => {
    if (/^[\x00-\x7f]*$/.test(label)) return label.toLowerCase()
    const ascii = domainToASCII(label)
    return ascii.startsWith('xn--') && !ascii.includes('.') ? ascii : undefined
  })
  return labels.includes(undefined) ? undefined : labels.join('.')
}

function refuse(problem: string): { readonly problem: string } {
  return { problem }
}

function show(text: string): string {
  return JSON.stringify(text)
}
