// The request's body on its way to the upstream: streamed with back-pressure, counted, limited, and
// kept while it is small, so that the request can be sent a second time.

import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'

/** Bodies up to this size are kept for one replay. */
export const REPLAY_BYTES = 1_048_576

/** True when the request has a body: RFC 9112 section 6.3. */
export function hasBody(request: IncomingMessage): boolean {
  const length = request.headers['content-length']
  return request.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
}

/**
 * A stream of its own, because the forwarding library destroys the body it was given when an answer
 * comes early, and that must not take the client's connection with it.
 */
export class RequestBody extends Readable {
  readonly #request: IncomingMessage
  readonly #maxBytes: number
  #kept: KeptBytes | undefined
  #bytes = 0
  #complete = false
  /** False once the stream is destroyed or given up: what still comes is only kept, for a second attempt. */
  #streaming = true
  #gathered: ((body: Buffer | undefined) => void) | undefined

  /** Throws `body_too_large` when the announced length already is. */
  constructor(request: IncomingMessage, maxBytes: number) {
    super({ highWaterMark: 65_536 })
    const announced = Number(request.headers['content-length'] ?? 0)
    if (announced > maxBytes) throw tooLarge(maxBytes)
    this.#request = request
    this.#maxBytes = maxBytes
    this.#kept = announced > REPLAY_BYTES ? undefined : new KeptBytes(announced)
    // Nobody may be listening yet when the client leaves.
    this.on('error', () => {})
    request.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onClose).pause()
  }

  /** Bytes that came from the client so far. */
  get bytes(): number {
    return this.#bytes
  }

  /** The whole body, when it has arrived and was small enough to keep. */
  get replay(): Buffer | undefined {
    return this.#complete ? this.#kept?.bytes : undefined
  }

  /** Whether the body was small enough to keep so far. */
  get isKept(): boolean {
    return this.#kept !== undefined
  }

  /**
   * Ends the streaming and gathers the rest for a second attempt: an answer may come before the body has
   * been sent. Undefined when it grows too large to keep or the client leaves.
   */
  gather(): Promise<Buffer | undefined> {
    if (this.#complete || this.#kept === undefined) return Promise.resolve(this.replay)
    if (this.#request.destroyed) return Promise.resolve(undefined)
    this.#streaming = false
    return new Promise(resolve => {
      this.#gathered = resolve
      this.#request.resume()
    })
  }

  override _read(): void {
    this.#request.resume()
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#streaming = false
    // A connection that is lost takes the stream with it, but the request may be sent again.
    if (this.#kept === undefined || this.#complete) this.#detach()
    else if (this.#gathered === undefined) this.#request.pause()
    callback(error)
  }

  #detach(): void {
    this.#request.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onClose)
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#bytes += chunk.length
    if (this.#bytes > this.#maxBytes) {
      this.destroy(tooLarge(this.#maxBytes))
      return
    }
    if (this.#kept !== undefined) {
      if (this.#bytes > REPLAY_BYTES) this.#kept = undefined
      else this.#kept.append(chunk)
    }
    if (!this.#streaming) {
      if (this.#kept === undefined) this.#endGathering()
      return
    }
    if (!this.push(chunk)) this.#request.pause()
  }

  readonly #onEnd = (): void => {
    this.#complete = true
    if (this.#streaming) this.push(null)
    else this.#endGathering()
  }

  readonly #onClose = (): void => {
    if (this.#complete) return
    if (this.#streaming) this.destroy(new ClientGone())
    else this.#endGathering()
  }

  #endGathering(): void {
    this.#detach()
    this.#request.pause()
    this.#gathered?.(this.replay)
  }
}

/** A copy in one piece: a list of small chunks would pin the large buffers they were cut from. */
class KeptBytes {
  #buffer: Buffer
  #length = 0

  /** `expected`: bytes to make room for at once; 0 when unknown. */
  constructor(expected: number) {
    this.#buffer = Buffer.allocUnsafeSlow(expected)
  }

  append(chunk: Buffer): void {
    const length = this.#length + chunk.length
    if (length > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(1_024, length, this.#buffer.length * 2))
      this.#buffer.copy(larger, 0, 0, this.#length)
      this.#buffer = larger
    }
    chunk.copy(this.#buffer, this.#length)
    this.#length = length
  }

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }
}

/** The client left in the middle of its request. There is nobody to answer. */
export class ClientGone extends Error {
  constructor() {
    super('the client closed the connection')
    this.name = 'ClientGone'
  }
}

function tooLarge(maxBytes: number): GatewayError {
  return new GatewayError(
    'body_too_large',
    `The request body is larger than the ${maxBytes} bytes this route takes.`,
    'Send a smaller body, or raise `limits.maxBody` of this route.',
  )
}
