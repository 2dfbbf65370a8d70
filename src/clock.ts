// Time as a dependency: the real clocks here, a manual one in the tests.

export interface Clock {
  /** Wall clock, epoch milliseconds. May jump. */
  now(): number
  /** Monotonic clock, milliseconds from an arbitrary start. Stands still while the machine sleeps. */
  monotonic(): number
  /** Runs `task` once after `delayMs` without keeping the process alive; returns what cancels it. */
  after(delayMs: number, task: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
