// How an answer goes out: whole or in pieces, and with every fault that was ordered for it.

import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Answer, Exchange, Service } from './exchange.ts'
import { type Fault, findFault } from './faults.ts'

const PIECE_BYTES = 64 * 1024

/** Asks the service and sends its answer, or does what was ordered instead. */
export async function reply(exchange: Exchange, service: Service, connection: Connection): Promise<void> {
  for (const fault of exchange.faults) {
    if (fault.kind === 'delay') await exchange.pause(fault.ms)
    if (fault.kind === 'hold') await exchange.hold(fault.until)
  }
  if (exchange.signal.aborted) return
  for (const fault of exchange.faults) {
    if (fault.kind === 'silent') return
    if (fault.kind === 'drop') return cut(connection, fault.how ?? 'rst')
    if (fault.kind === 'raw') return sendRaw(connection, fault.bytes)
    if (fault.kind === 'status') return send(exchange, connection, orderedAnswer(fault, service, exchange))
  }
  await send(exchange, connection, await service.answer(exchange))
}

/** Where an answer goes. */
export interface Connection {
  readonly response: ServerResponse
  /** The TCP socket, under TLS too. */
  readonly bare: Socket
  /** We ended it early, by order: it looks like a client that left. */
  cut: boolean
}

function cut(connection: Connection, how: 'rst' | 'fin'): void {
  connection.cut = true
  if (how === 'rst') connection.bare.resetAndDestroy()
  else connection.response.socket?.destroySoon()
}

function sendRaw(connection: Connection, bytes: string): void {
  connection.cut = true
  const { socket } = connection.response
  socket?.write(bytes, 'latin1')
  socket?.destroySoon()
}

/** The status that was ordered, in the service's own error shape where the order says nothing else. */
function orderedAnswer(
  fault: Extract<Fault, { kind: 'status' }>,
  service: Service,
  exchange: Exchange,
): Answer {
  const shape = service.failure(fault.status, exchange)
  return {
    status: fault.status,
    headers: {
      ...shape.headers,
      ...(fault.body === undefined ? {} : { 'content-length': String(Buffer.byteLength(fault.body)) }),
      ...(fault.retryAfter === undefined ? {} : { 'retry-after': String(fault.retryAfter) }),
      ...fault.headers,
    },
    body: fault.body ?? shape.body ?? '',
  }
}

async function send(exchange: Exchange, connection: Connection, answer: Answer): Promise<void> {
  const { response } = connection
  if (exchange.signal.aborted) return
  response.writeHead(answer.status, { ...answer.headers } as Record<string, string | string[]>)
  exchange.log.answered(exchange.entry, answer.status)
  const { body } = answer
  if (body === undefined || !hasBody(exchange.method, answer.status)) return void response.end()
  const whole = typeof body === 'string' ? Buffer.from(body) : body instanceof Uint8Array ? body : undefined
  if (whole !== undefined && whole.length <= PIECE_BYTES && !exchange.faults.some(isBodyFault)) {
    exchange.entry.bytesOut = whole.length
    return void response.end(whole)
  }
  response.flushHeaders()
  const complete = await sendPieces(exchange, connection, whole ?? (body as AsyncIterable<Uint8Array>))
  if (complete) response.end()
}

function isBodyFault(fault: Fault): boolean {
  return fault.kind === 'slow-body' || fault.kind === 'stall-body' || fault.kind === 'cut-body'
}

/** False when the body came to an untimely end, by order or because the client is gone. */
async function sendPieces(
  exchange: Exchange,
  connection: Connection,
  body: Uint8Array | AsyncIterable<Uint8Array>,
): Promise<boolean> {
  const { response } = connection
  const faulty = exchange.faults.some(isBodyFault)
  const slow = findFault(exchange.faults, 'slow-body')
  const stall = findFault(exchange.faults, 'stall-body')
  const scissors = findFault(exchange.faults, 'cut-body')
  let untilStop = (scissors ?? stall)?.afterBytes ?? Number.POSITIVE_INFINITY
  /** True when the body may go on. */
  const stop = async () => {
    untilStop = Number.POSITIVE_INFINITY
    if (scissors === undefined) await exchange.hold(stall?.until)
    else cut(connection, scissors.how ?? 'fin')
    return scissors === undefined
  }
  for await (const piece of pieces(body, slow?.bytes ?? PIECE_BYTES)) {
    if (slow !== undefined && exchange.entry.bytesOut > 0) await exchange.pause(slow.pauseMs)
    const before = piece.subarray(0, Math.min(piece.length, untilStop))
    if (!(await write(exchange, response, before, faulty))) return false
    untilStop -= before.length
    if (untilStop > 0) continue
    if (!(await stop())) return false
    if (!(await write(exchange, response, piece.subarray(before.length), faulty))) return false
  }
  if (untilStop < Number.POSITIVE_INFINITY && !(await stop())) return false
  return !exchange.signal.aborted
}

function hasBody(method: string, status: number): boolean {
  return method !== 'HEAD' && status !== 204 && status !== 304
}

async function* pieces(
  body: Uint8Array | AsyncIterable<Uint8Array>,
  size: number,
): AsyncGenerator<Uint8Array> {
  if (body instanceof Uint8Array) yield* slices(body, size)
  else for await (const chunk of body) yield* slices(chunk, size)
}

function* slices(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size)
}

/**
 * Writes and waits: until the socket has taken the bytes when `flush` is set, else only while it is full. False when the
 * client is gone.
 */
function write(
  exchange: Exchange,
  response: ServerResponse,
  bytes: Uint8Array,
  flush: boolean,
): Promise<boolean> {
  if (exchange.signal.aborted) return Promise.resolve(false)
  if (bytes.length === 0) return Promise.resolve(true)
  exchange.entry.bytesOut += bytes.length
  return new Promise(resolve => {
    const settle = () => {
      exchange.signal.removeEventListener('abort', settle)
      response.off('drain', settle)
      resolve(!exchange.signal.aborted)
      exchange.log.changed()
    }
    const taken = response.write(bytes, flush ? settle : undefined)
    if (taken && !flush) return settle()
    exchange.signal.addEventListener('abort', settle)
    if (!flush) response.once('drain', settle)
  })
}
