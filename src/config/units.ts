// Durations and sizes as the file writes them, in the units the code counts in.

export const DURATION_PATTERN = '^[0-9]+(ms|s|m|h)$'
export const SIZE_PATTERN = '^[0-9]+(B|KiB|MiB|GiB)$'

/** The longest delay a Node timer keeps; anything longer would fire at once. */
export const MAX_DURATION_MS = 2 ** 31 - 1

const MS_PER = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const
const BYTES_PER = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 } as const

/** `10s` → 10000. Undefined when it does not match DURATION_PATTERN. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text)
  return match === null ? undefined : Number(match[1]) * MS_PER[match[2] as keyof typeof MS_PER]
}

/** `10GiB` → 10737418240. Undefined when it does not match SIZE_PATTERN. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+)(B|KiB|MiB|GiB)$/.exec(text)
  return match === null ? undefined : Number(match[1]) * BYTES_PER[match[2] as keyof typeof BYTES_PER]
}

/** The shortest way to write a duration: 120000 → `2m`. */
export function formatDuration(ms: number): string {
  for (const unit of ['h', 'm', 's'] as const) {
    if (ms !== 0 && ms % MS_PER[unit] === 0) return `${ms / MS_PER[unit]}${unit}`
  }
  return `${ms}ms`
}

/** The shortest way to write a size: 10737418240 → `10GiB`. */
export function formatSize(bytes: number): string {
  for (const unit of ['GiB', 'MiB', 'KiB'] as const) {
    if (bytes !== 0 && bytes % BYTES_PER[unit] === 0) return `${bytes / BYTES_PER[unit]}${unit}`
  }
  return `${bytes}B`
}
