// The scratch area `/~standin/` of the resource servers: paths no Azure service has, for whoever wants to see exactly
// what a gateway sent or to move many bytes. The token is checked before.

import { createHash } from 'node:crypto'
import type { Answer, Exchange } from './exchange.ts'
import { withoutSecrets } from './request-log.ts'

/**
 * - `ANY  /~standin/echo`: JSON `{ method, url, rawHeaders, bytes, sha256 }`, the token replaced by its claims
 * - `GET  /~standin/bytes/{n}[?chunked]`: n bytes of {@link patternBytes}, with a content-length or chunked
 * - `ANY  /~standin/sink`: reads the body, JSON `{ bytes, sha256 }`
 * - `ANY  /~standin/status/{code}`: that status with a short text
 *
 * Undefined for any other path.
 */
export async function answerScratch(exchange: Exchange): Promise<Answer | undefined> {
  const [, root, name, argument] = exchange.path.split('/')
  if (root !== '~standin') return undefined
  if (name === 'echo') {
    const { method, request } = exchange
    const rawHeaders = withoutSecrets(request.rawHeaders)
    return jsonAnswer({ method, url: request.url, rawHeaders, ...(await digest(exchange)) })
  }
  if (name === 'sink') return jsonAnswer(await digest(exchange))
  if (name === 'bytes') return bytesAnswer(Number(argument), exchange.query.has('chunked'))
  if (name === 'status') return statusAnswer(Number(argument))
  return statusAnswer(404)
}

/** Byte i is i modulo 251, a prime: a piece that is lost, repeated or moved shows. Ends before `end`. */
export async function* patternBytes(start: number, end: number): AsyncGenerator<Buffer> {
  for (let at = start; at < end; ) {
    const offset = at % PATTERN.length
    const piece = PATTERN.subarray(offset, offset + end - at)
    at += piece.length
    yield piece
  }
}

const PATTERN = Buffer.from(Array.from({ length: 251 * 256 }, (_, index) => index % 251))

async function digest(exchange: Exchange): Promise<{ readonly bytes: number; readonly sha256: string }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of exchange.body()) {
    hash.update(chunk)
    bytes += chunk.length
  }
  return { bytes, sha256: hash.digest('hex') }
}

function bytesAnswer(count: number, chunked: boolean): Answer {
  if (!Number.isSafeInteger(count) || count < 0) return statusAnswer(400)
  return {
    status: 200,
    headers: {
      'content-type': 'application/octet-stream',
      ...(chunked ? {} : { 'content-length': String(count) }),
    },
    body: patternBytes(0, count),
  }
}

function statusAnswer(status: number): Answer {
  if (!Number.isInteger(status) || status < 200 || status > 999) return statusAnswer(400)
  const body = `status ${status}\n`
  const bodiless = status === 204 || status === 304
  return {
    status,
    headers: { 'content-type': 'text/plain', ...(bodiless ? {} : { 'content-length': String(body.length) }) },
    body,
  }
}

function jsonAnswer(value: unknown): Answer {
  const body = JSON.stringify(value)
  return {
    status: 200,
    headers: { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) },
    body,
  }
}
