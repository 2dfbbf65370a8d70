// How many requests of a route may be with its upstream at once, and how many may wait for a place.

import { GatewayError } from '../errors.ts'

export interface AdmissionLimits {
  readonly maxConcurrent: number
  readonly maxQueue: number
  readonly queueTimeoutMs: number
}

interface Waiting {
  readonly admit: () => void
  readonly timer: NodeJS.Timeout
}

/** A counter with a bounded queue. Each admitted request leaves exactly once. */
export class Admission {
  readonly #limits: AdmissionLimits
  readonly #queue = new Set<Waiting>()
  #active = 0

  constructor(limits: AdmissionLimits) {
    this.#limits = limits
  }

  get active(): number {
    return this.#active
  }

  get queued(): number {
    return this.#queue.size
  }

  /** True when admitted at once; otherwise wait with `wait`. */
  enter(): boolean {
    if (this.#active >= this.#limits.maxConcurrent) return false
    this.#active++
    return true
  }

  /**
   * Calls `admit` when a place is free, or `refuse` when none became free in time. Returns what gives the
   * place in the queue up. Throws `overloaded` when the queue is full.
   */
  wait(admit: () => void, refuse: (error: GatewayError) => void): () => void {
    if (this.#queue.size >= this.#limits.maxQueue) throw overloaded('The queue of this route is full.')
    const waiting: Waiting = {
      admit: () => {
        clearTimeout(waiting.timer)
        this.#queue.delete(waiting)
        admit()
      },
      timer: setTimeout(() => {
        this.#queue.delete(waiting)
        refuse(overloaded(`No place became free within ${this.#limits.queueTimeoutMs} ms.`))
      }, this.#limits.queueTimeoutMs),
    }
    this.#queue.add(waiting)
    return () => {
      clearTimeout(waiting.timer)
      this.#queue.delete(waiting)
    }
  }

  /** Gives a place back: to the one that waited longest, if any. */
  leave(): void {
    const [next] = this.#queue
    if (next === undefined) this.#active--
    else next.admit()
  }
}

function overloaded(detail: string): GatewayError {
  return new GatewayError(
    'overloaded',
    detail,
    'Retry after the time in Retry-After, send fewer requests at once, or raise `limits` of this route.',
    { headers: { 'retry-after': '1' } },
  )
}
