// Time under the test's control: nothing moves until the test says so.

import type { Clock } from '../../src/clock.ts'

interface Timer {
  readonly at: number
  readonly task: () => void
}

export class ManualClock implements Clock {
  #wall: number
  #monotonic = 1_000
  #timers: Timer[] = []

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#wall = startMs
  }

  now(): number {
    return this.#wall
  }

  monotonic(): number {
    return this.#monotonic
  }

  after(delayMs: number, task: () => void): () => void {
    const timer = { at: this.#monotonic + delayMs, task }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter(other => other !== timer)
    }
  }

  /** How many timers wait. */
  get pending(): number {
    return this.#timers.length
  }

  /** Milliseconds until the nearest timer, or undefined. */
  get nextTimerMs(): number | undefined {
    const times = this.#timers.map(timer => timer.at - this.#monotonic)
    return times.length === 0 ? undefined : Math.min(...times)
  }

  /**
   * Moves both clocks on. Timers fire in order, each at its own time, and what they set off runs
   * as far as promises carry it before time goes on.
   */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms
    for (;;) {
      await settle()
      const timer = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      if (timer === undefined) break
      this.#timers = this.#timers.filter(other => other !== timer)
      this.#move(Math.max(0, timer.at - this.#monotonic))
      timer.task()
    }
    this.#move(end - this.#monotonic)
    await settle()
  }

  /** Moves the wall clock alone: someone set it, or the machine slept. No timer fires. */
  moveWall(ms: number): void {
    this.#wall += ms
  }

  #move(ms: number): void {
    this.#wall += ms
    this.#monotonic += ms
  }
}

/** Lets everything run that promises alone carry. */
export function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
