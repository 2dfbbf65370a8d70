// What is in the stand-in's Batch account: jobs with tasks and files, pools with nodes. Thousands of jobs cost nothing
// until somebody looks at one.

import type { Clock } from '../clock.ts'
import { patternBytes } from './scratch.ts'

/** The version of a resource: each change gives a new one. */
export interface Version {
  /** As Batch writes it, without quotes: `0x8DE…`. */
  readonly etag: string
  /** Epoch milliseconds. */
  readonly lastModified: number
}

export interface Job {
  readonly id: string
  readonly created: number
  /** What the client set: poolInfo, priority, metadata, … */
  settings: Readonly<Record<string, unknown>>
  state: 'active' | 'disabled' | 'completed'
  version: Version
  readonly tasks: Collection<Task>
}

export interface Task {
  readonly id: string
  readonly jobId: string
  readonly created: number
  readonly settings: Readonly<Record<string, unknown>>
  readonly version: Version
  readonly files: Map<string, TaskFile>
}

export interface TaskFile {
  /** With `/` between directories; a `\` is part of a name. */
  readonly name: string
  readonly isDirectory: boolean
  readonly bytes: number
  /** The bytes from `start` up to, not including, `end`. */
  read(start: number, end: number): AsyncIterable<Uint8Array>
}

export interface Pool {
  readonly id: string
  readonly created: number
  settings: Readonly<Record<string, unknown>>
  version: Version
}

export interface Page<T> {
  readonly items: readonly T[]
  /** Where the next page begins; absent on the last one. */
  readonly next?: string
}

/** Things with an id, in the order they were added; made when first looked at. */
export class Collection<T> {
  readonly #entries = new Map<string, { readonly ordinal: number; value?: T }>()
  readonly #make: (id: string, ordinal: number) => T
  #lastOrdinal = 0

  constructor(ids: Iterable<string>, make: (id: string, ordinal: number) => T) {
    this.#make = make
    for (const id of ids) this.#entries.set(id, { ordinal: this.#nextOrdinal() })
  }

  has(id: string): boolean {
    return this.#entries.has(id)
  }

  get(id: string): T | undefined {
    const entry = this.#entries.get(id)
    if (entry === undefined) return undefined
    entry.value ??= this.#make(id, entry.ordinal)
    return entry.value
  }

  add(id: string, value: T): void {
    this.#entries.set(id, { ordinal: this.#nextOrdinal(), value })
  }

  delete(id: string): void {
    this.#entries.delete(id)
  }

  get size(): number {
    return this.#entries.size
  }

  /** At most `size` items after the place `after`, the `next` of the page before. */
  page(size: number, after = '0'): Page<T> {
    const items: T[] = []
    let last = 0
    for (const [id, { ordinal }] of this.#entries) {
      if (ordinal <= Number(after)) continue
      if (items.length === size) return { items, next: String(last) }
      items.push(this.get(id)!)
      last = ordinal
    }
    return { items }
  }

  #nextOrdinal(): number {
    this.#lastOrdinal += 1
    return this.#lastOrdinal
  }
}

const POOLS = ['pool-1', 'pool-2']
const NODES_PER_POOL = 2
const TASKS_PER_JOB = 3
const LARGE_FILE_BYTES = 64 * 1024 * 1024

export class BatchAccount {
  readonly jobs: Collection<Job>
  readonly pools: Collection<Pool>
  readonly #clock: Clock
  #versions = 0

  /** With `jobs` jobs `job-00001`… of three tasks each, and two pools. */
  constructor(clock: Clock, jobs: number) {
    this.#clock = clock
    const ids = Array.from({ length: jobs }, (_, index) => `job-${String(index + 1).padStart(5, '0')}`)
    const created = clock.now()
    const settings = { poolInfo: { poolId: POOLS[0] } }
    this.jobs = new Collection(ids, id => {
      const tasks = Array.from({ length: TASKS_PER_JOB }, (_, index) => `task-${index + 1}`)
      return this.#job(id, settings, created, tasks)
    })
    this.pools = new Collection(POOLS, id => this.#pool(id, { vmSize: 'standard_d2s_v3' }, created))
  }

  addJob(id: string, settings: Readonly<Record<string, unknown>>): Job {
    const job = this.#job(id, settings, this.#clock.now(), [])
    this.jobs.add(id, job)
    return job
  }

  addTask(job: Job, id: string, settings: Readonly<Record<string, unknown>>): Task {
    const task = this.#task(job.id, id, settings, this.#clock.now())
    job.tasks.add(id, task)
    return task
  }

  addPool(id: string, settings: Readonly<Record<string, unknown>>): Pool {
    const pool = this.#pool(id, settings, this.#clock.now())
    this.pools.add(id, pool)
    return pool
  }

  /** Gives a job or pool a new version, after a change. */
  touch(resource: Job | Pool): void {
    resource.version = this.#version(this.#clock.now())
  }

  /** The ids of a pool's compute nodes. */
  nodes(pool: Pool): readonly string[] {
    return Array.from({ length: NODES_PER_POOL }, (_, index) => `tvmps_${pool.id}_${index + 1}`)
  }

  #job(id: string, settings: Job['settings'], created: number, tasks: readonly string[]): Job {
    const make = (taskId: string) => this.#task(id, taskId, { commandLine: 'hostname' }, created)
    const version = this.#version(created)
    return { id, created, settings, state: 'active', version, tasks: new Collection(tasks, make) }
  }

  #task(jobId: string, id: string, settings: Task['settings'], created: number): Task {
    return {
      id,
      jobId,
      created,
      settings,
      version: this.#version(created),
      files: taskFiles(jobId, id, settings),
    }
  }

  #pool(id: string, settings: Pool['settings'], created: number): Pool {
    return { id, created, settings, version: this.#version(created) }
  }

  #version(lastModified: number): Version {
    this.#versions += 1
    const ticks = ticksOf(lastModified) + BigInt(this.#versions)
    return { etag: `0x${ticks.toString(16).toUpperCase()}`, lastModified }
  }
}

/** Units of 100 ns since the year 1: what Batch's ETags and seven-digit times are made of. */
function ticksOf(epochMs: number): bigint {
  return 621_355_968_000_000_000n + BigInt(Math.floor(epochMs)) * 10_000n
}

/** Every task has run already, so each has the same files: two that differ only in `/` and `\` among them. */
function taskFiles(jobId: string, taskId: string, settings: Task['settings']): Map<string, TaskFile> {
  const files = [
    textFile('stdout.txt', `${taskId} of ${jobId} ran: ${String(settings['commandLine'])}\n`),
    textFile('stderr.txt', ''),
    directory('wd'),
    textFile('wd/output.txt', `output of ${taskId}, in the directory wd\n`),
    textFile('wd\\output.txt', `output of ${taskId}, a name with a backslash\n`),
    {
      name: 'wd/large.bin',
      isDirectory: false,
      bytes: LARGE_FILE_BYTES,
      read: patternBytes,
    },
  ]
  return new Map(files.map(file => [file.name, file]))
}

function textFile(name: string, text: string): TaskFile {
  const content = Buffer.from(text)
  return {
    name,
    isDirectory: false,
    bytes: content.length,
    async *read(start, end) {
      yield content.subarray(start, end)
    },
  }
}

function directory(name: string): TaskFile {
  return { name, isDirectory: true, bytes: 0, async *read() {} }
}
