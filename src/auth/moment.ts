// A moment on both clocks. The wall clock can be set and the monotonic clock stops while the machine
// sleeps, so whichever says the moment is nearer is believed.

import type { Clock } from '../clock.ts'

export interface Moment {
  /** Epoch milliseconds. */
  readonly wall: number
  /** The same moment on the monotonic clock, milliseconds. */
  readonly monotonic: number
}

export function momentIn(clock: Clock, delayMs: number): Moment {
  return { wall: clock.now() + delayMs, monotonic: clock.monotonic() + delayMs }
}

/** Milliseconds left until `moment`; zero or less when it has come. */
export function msUntil(moment: Moment, clock: Clock): number {
  return msBetween(clock.now(), clock.monotonic(), moment)
}

/** The same for clocks that have been read already. */
export function msBetween(wall: number, monotonic: number, moment: Moment): number {
  return Math.min(moment.wall - wall, moment.monotonic - monotonic)
}
