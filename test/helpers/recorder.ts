// A raw TCP upstream: keeps every byte it got and answers what the test's script says, right or wrong.

import type { AddressInfo } from 'node:net'
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'

/** One request as it came over the wire. */
export interface RecordedRequest {
  readonly method: string
  readonly target: string
  /** `Name: value` lines, as sent. */
  readonly lines: readonly string[]
  /** First value of a header, by lower-case name. */
  header(name: string): string | undefined
  readonly body: Buffer
  /** Which connection it came by, from 1. */
  readonly connection: number
}

export type Script = (socket: Socket, request: RecordedRequest, index: number) => void

export interface Recorder {
  readonly port: number
  readonly origin: string
  readonly requests: RecordedRequest[]
  readonly sockets: Set<Socket>
  /** Connections accepted so far. */
  readonly connections: number
  /** Fulfilled when `holds` does; asked again at each event. */
  until(holds: () => boolean): Promise<void>
  close(): Promise<void>
}

export interface RecorderOptions {
  readonly tls?: { readonly key: string; readonly cert: string }
  /** `head`: the script runs when the head is in, before the body (a request then has no body). Default `body`. */
  readonly answerAt?: 'head' | 'body'
  /** Looks at all raw bytes. */
  readonly onBytes?: (chunk: Buffer, connection: number) => void
}

const OK = 'HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok'

export async function openRecorder(
  script: Script = socket => socket.write(OK),
  options: RecorderOptions = {},
): Promise<Recorder> {
  const requests: RecordedRequest[] = []
  const sockets = new Set<Socket>()
  const waiting = new Set<() => void>()
  const changed = () => {
    for (const check of [...waiting]) check()
  }
  let connections = 0

  const onSocket = (socket: Socket) => {
    const connection = ++connections
    sockets.add(socket)
    changed()
    socket.on('close', () => {
      sockets.delete(socket)
      changed()
    })
    socket.on('error', () => {})
    let buffer: Buffer = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      options.onBytes?.(chunk, connection)
      buffer = Buffer.concat([buffer, chunk])
      for (;;) {
        const parsed = parseRequest(buffer, connection, options.answerAt ?? 'body')
        if (parsed === undefined) break
        buffer = parsed.rest
        requests.push(parsed.request)
        script(socket, parsed.request, requests.length - 1)
        changed()
        if (options.answerAt === 'head') {
          // The rest of the stream is this request's body; nobody parses it.
          socket.removeAllListeners('data')
          socket.on('data', more => {
            options.onBytes?.(more, connection)
            changed()
          })
          break
        }
      }
    })
  }
  const server: Server = options.tls ? createTlsServer(options.tls, onSocket) : createServer(onSocket)
  server.on('tlsClientError', () => {})
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo

  return {
    port,
    origin: `${options.tls ? 'https' : 'http'}://localhost:${port}`,
    requests,
    sockets,
    get connections() {
      return connections
    },
    until(holds) {
      return new Promise(resolve => {
        const check = () => {
          if (!holds()) return
          waiting.delete(check)
          resolve()
        }
        waiting.add(check)
        check()
      })
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

function parseRequest(
  buffer: Buffer,
  connection: number,
  answerAt: 'head' | 'body',
): { request: RecordedRequest; rest: Buffer } | undefined {
  const end = buffer.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const [first = '', ...lines] = buffer.toString('latin1', 0, end).split('\r\n')
  const [method = '', target = ''] = first.split(' ')
  const header = (name: string) => {
    const line = lines.find(each => each.toLowerCase().startsWith(`${name}:`))
    return line?.slice(name.length + 1).trim()
  }
  const start = end + 4
  const make = (body: Buffer, rest: Buffer) => ({
    request: { method, target, lines, header, body, connection },
    rest,
  })
  if (answerAt === 'head') return make(Buffer.alloc(0), Buffer.alloc(0))
  if (header('transfer-encoding')?.toLowerCase() === 'chunked') {
    const parts: Buffer[] = []
    let at = start
    for (;;) {
      const eol = buffer.indexOf('\r\n', at)
      if (eol < 0) return undefined
      const size = Number.parseInt(buffer.toString('latin1', at, eol), 16)
      if (buffer.length < eol + 2 + size + 2) return undefined
      parts.push(buffer.subarray(eol + 2, eol + 2 + size))
      at = eol + 2 + size + 2
      if (size === 0) return make(Buffer.concat(parts), buffer.subarray(at))
    }
  }
  const length = Number(header('content-length') ?? 0)
  if (buffer.length < start + length) return undefined
  return make(buffer.subarray(start, start + length), buffer.subarray(start + length))
}
