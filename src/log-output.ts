// Log lines on their way out: gathered and written together, since a system call per line would cost more
// than the line. A reader that is slow or gone must never stop the gateway.

import type { DestinationStream } from 'pino'

/** Lines wait for so many characters, or for the next flush. */
const GATHER_CHARS = 4_096
/** More than this is dropped while the reader is stuck. */
const MAX_STUCK_BYTES = 1_048_576

export interface LogOutput extends DestinationStream {
  /** Writes what has gathered; what the reader cannot take yet is kept for the next time. Never throws. */
  flush(): void
}

/** `write` takes bytes and returns how many it took, as `fs.writeSync` does; it may throw EAGAIN or EPIPE. */
export function gatherLines(write: (bytes: Buffer) => number): LogOutput {
  let gathered = ''
  let stuck: Buffer = Buffer.alloc(0)
  let gone = false

  function flush(): void {
    if (gathered === '' && stuck.length === 0) return
    let bytes: Buffer = Buffer.from(gathered)
    if (stuck.length > 0) bytes = Buffer.concat([stuck, bytes])
    gathered = ''
    stuck = Buffer.alloc(0)
    try {
      while (bytes.length > 0) bytes = bytes.subarray(write(bytes))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') gone = true
      else if (bytes.length <= MAX_STUCK_BYTES) stuck = bytes
    }
  }

  return {
    write(line) {
      if (gone) return
      gathered += line
      if (gathered.length >= GATHER_CHARS) flush()
    },
    flush,
  }
}
