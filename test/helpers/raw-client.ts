// A client of bytes, for what no HTTP library would send.

import { connect } from 'node:net'

export interface RawAnswer {
  /** 0 when the connection ended without a status line. */
  readonly status: number
  /** Lower-case names; repeats joined with `, `. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** All bytes until the connection closed, latin1. */
  readonly text: string
}

/** Sends `bytes` and reads until the gateway closes the connection: ask it to, or it takes the timeout. */
export function sendRaw(port: number, bytes: string | Buffer, timeoutMs = 5_000): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = connect({ port, host: '127.0.0.1' }, () => socket.write(bytes, 'latin1' as never))
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new Error(`the connection stayed open; so far: ${Buffer.concat(chunks).toString('latin1')}`))
    }, timeoutMs)
    socket.on('data', chunk => chunks.push(chunk))
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(parse(Buffer.concat(chunks).toString('latin1')))
    })
  })
}

/** A GET that closes, with `Host: localhost:port` unless the lines bring their own. */
export function get(port: number, target: string, lines: readonly string[] = []): Promise<RawAnswer> {
  const host = lines.some(line => /^host:/i.test(line)) ? [] : [`Host: localhost:${port}`]
  return sendRaw(
    port,
    [`GET ${target} HTTP/1.1`, ...host, ...lines, 'Connection: close', '', ''].join('\r\n'),
  )
}

function parse(text: string): RawAnswer {
  const end = text.indexOf('\r\n\r\n')
  const [first = '', ...lines] = text.slice(0, Math.max(0, end)).split('\r\n')
  const headers: Record<string, string> = {}
  for (const line of lines) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value
  }
  return { status: Number(first.split(' ')[1] ?? 0), headers, body: end < 0 ? '' : text.slice(end + 4), text }
}
