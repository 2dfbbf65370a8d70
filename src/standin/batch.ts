// The Batch account of the stand-in as seen over HTTP: routes, conditional requests, headers and error bodies.
// Wire format: Azure Batch REST API reference.

import { randomUUID } from 'node:crypto'
import type { Clock } from '../clock.ts'
import type { BatchAccount, Collection, Job, Pool, Task, TaskFile, Version } from './batch-account.ts'
import type { BearerCheck, Refusal } from './bearer.ts'
import { answerScratch } from './scratch.ts'
import type { Answer, Exchange, Service } from './server.ts'

export interface BatchOptions {
  readonly account: () => BatchAccount
  readonly bearer: BearerCheck
  readonly clock: Clock
  readonly pageSize: number
}

const MAX_BODY_BYTES = 1024 * 1024
const MAX_TASKS_PER_CALL = 100

/** Status and text of each error code (Azure Batch documentation, "Batch status and error codes"). */
const ERRORS = {
  AuthenticationFailed: [
    401,
    'Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly.',
  ],
  AuthorizationFailure: [403, 'This request is not authorized to perform this operation.'],
  ConditionNotMet: [412, 'The condition specified using HTTP conditional header(s) is not met.'],
  FileNotFound: [404, 'The specified file does not exist.'],
  InternalError: [500, 'Server encountered an internal error. Please try again after some time.'],
  InvalidHeaderValue: [400, 'The value provided for one of the HTTP headers was not in the correct format.'],
  InvalidInput: [400, 'One of the request inputs is not valid.'],
  InvalidQueryParameterValue: [
    400,
    'Value for one of the query parameters specified in the request URI is invalid.',
  ],
  InvalidRange: [416, 'The range specified is invalid for the current size of the resource.'],
  InvalidRequestBody: [400, 'The specified Request Body is not syntactically valid.'],
  InvalidUri: [400, 'The requested URI does not represent any resource on the server.'],
  JobCompleted: [409, 'The specified job is already in a completed state.'],
  JobExists: [409, 'The specified job already exists.'],
  JobNotFound: [404, 'The specified job does not exist.'],
  MissingContentLengthHeader: [411, 'Content-Length header was not specified.'],
  MissingRequiredProperty: [400, 'A required property was not specified in the request body.'],
  MissingRequiredQueryParameter: [
    400,
    'A query parameter that is mandatory for this request is not specified.',
  ],
  NodeNotFound: [404, 'The specified node does not exist.'],
  PoolExists: [409, 'The specified pool already exists.'],
  PoolNotFound: [404, 'The specified pool does not exist.'],
  RequestBodyTooLarge: [413, 'The size of the request body exceeds the maximum size permitted.'],
  ResourceNotFound: [404, 'The specified resource does not exist.'],
  ServerBusy: [503, 'Server is currently unable to receive requests. Please retry your request.'],
  TaskExists: [409, 'The specified task already exists.'],
  TaskNotFound: [404, 'The specified task does not exist.'],
  TooManyRequests: [429, 'Request failed as server encountered too many requests. Please try again.'],
  UnsupportedHttpVerb: [405, 'The resource does not support the specified HTTP verb.'],
} as const satisfies Record<string, readonly [number, string]>

type ErrorCode = keyof typeof ERRORS

/** An error answer, thrown where it is found. */
class BatchError extends Error {
  readonly code: ErrorCode
  readonly values: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>

  constructor(
    code: ErrorCode,
    values: Readonly<Record<string, string>> = {},
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(ERRORS[code][1])
    this.code = code
    this.values = values
    this.headers = headers
  }
}

/** One request on its way to a handler. */
interface Call {
  readonly account: BatchAccount
  readonly exchange: Exchange
  readonly pageSize: number
  readonly clock: Clock
  /** The `{}` parts of the path, decoded, in order. */
  readonly parameters: readonly string[]
}

type Handler = (call: Call) => Answer | Promise<Answer>

/** Method and path; `{}` is one segment, so an encoded slash is part of it and a bare one is not. */
const ROUTES: readonly (readonly [method: string, path: string, handler: Handler])[] = [
  ['GET', '/jobs', call => list(call, 'jobs', call.account.jobs, jobBody)],
  ['POST', '/jobs', addJob],
  ['GET', '/jobs/{}', call => one(call, 'jobs', findJob(call), jobBody)],
  ['PATCH', '/jobs/{}', call => changeJob(call, job => job.settings)],
  ['PUT', '/jobs/{}', call => changeJob(call, () => ({}))],
  ['DELETE', '/jobs/{}', deleteJob],
  ['POST', '/jobs/{}/disable', call => moveJob(call, 'disabled')],
  ['POST', '/jobs/{}/enable', call => moveJob(call, 'active')],
  ['POST', '/jobs/{}/terminate', call => moveJob(call, 'completed')],
  ['GET', '/jobs/{}/taskcounts', countTasks],
  ['GET', '/jobs/{}/tasks', call => list(call, 'tasks', findJob(call).tasks, taskBody)],
  ['POST', '/jobs/{}/tasks', addTask],
  ['POST', '/jobs/{}/addtaskcollection', addTasks],
  ['GET', '/jobs/{}/tasks/{}', call => one(call, 'tasks', findTask(call), taskBody)],
  ['DELETE', '/jobs/{}/tasks/{}', deleteTask],
  ['POST', '/jobs/{}/tasks/{}/terminate', terminateTask],
  ['GET', '/jobs/{}/tasks/{}/files', listFiles],
  ['GET', '/jobs/{}/tasks/{}/files/{}', readFile],
  ['HEAD', '/jobs/{}/tasks/{}/files/{}', readFile],
  ['DELETE', '/jobs/{}/tasks/{}/files/{}', deleteFile],
  ['GET', '/pools', call => list(call, 'pools', call.account.pools, poolBody)],
  ['POST', '/pools', addPool],
  ['GET', '/pools/{}', call => one(call, 'pools', findPool(call), poolBody)],
  ['HEAD', '/pools/{}', call => one(call, 'pools', findPool(call), poolBody)],
  ['PATCH', '/pools/{}', changePool],
  ['DELETE', '/pools/{}', deletePool],
  ['POST', '/pools/{}/resize', movePool],
  ['POST', '/pools/{}/stopresize', movePool],
  ['GET', '/pools/{}/nodes', listNodes],
  ['GET', '/pools/{}/nodes/{}', getNode],
]

export class BatchService implements Service {
  readonly #options: BatchOptions

  constructor(options: BatchOptions) {
    this.#options = options
  }

  async answer(exchange: Exchange): Promise<Answer> {
    try {
      return withCommonHeaders(exchange, await this.#serve(exchange))
    } catch (error) {
      if (!(error instanceof BatchError)) throw error
      return withCommonHeaders(exchange, this.#errorAnswer(exchange, error))
    }
  }

  failure(status: number, exchange: Exchange): Answer {
    const code = CODE_BY_STATUS[status] ?? (status < 500 ? 'InvalidInput' : 'InternalError')
    const headers = status === 401 ? { 'www-authenticate': this.#options.bearer.challenge() } : undefined
    const answer = this.#errorAnswer(exchange, new BatchError(code, {}, headers))
    return withCommonHeaders(exchange, answer)
  }

  async #serve(exchange: Exchange): Promise<Answer> {
    const isScratch = exchange.path.startsWith('/~standin/')
    if (!isScratch) checkApiVersion(exchange)
    const checked = await this.#options.bearer.check(exchange)
    if ('reason' in checked) throw unauthenticated(checked)
    const scratch = await answerScratch(exchange)
    if (scratch !== undefined) return scratch
    checkLength(exchange)
    const { clock, pageSize } = this.#options
    const { handler, parameters } = route(exchange)
    return handler({ account: this.#options.account(), exchange, pageSize, clock, parameters })
  }

  #errorAnswer(exchange: Exchange, error: BatchError): Answer {
    const values = Object.entries(error.values).map(([key, value]) => ({ key, value }))
    return {
      status: ERRORS[error.code][0],
      headers: { 'content-type': JSON_TYPE, ...error.headers },
      body: render({
        'odata.metadata': metadata(
          exchange,
          'Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element',
        ),
        code: error.code,
        message: errorMessage(error.message, requestId(exchange), this.#options.clock.now()),
        ...(values.length === 0 ? {} : { values }),
      }),
    }
  }
}

const CODE_BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  401: 'AuthenticationFailed',
  403: 'AuthorizationFailure',
  404: 'ResourceNotFound',
  412: 'ConditionNotMet',
  413: 'RequestBodyTooLarge',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServerBusy',
}

const JSON_TYPE = 'application/json;odata=minimalmetadata'

// ---- before the handler

function checkApiVersion(exchange: Exchange): void {
  const version = exchange.query.get('api-version')
  if (version === null) {
    throw new BatchError('MissingRequiredQueryParameter', { QueryParameterName: 'api-version' })
  }
  if (!/^\d{4}-\d{2}-\d{2}(\.\d+\.\d+)?$/.test(version)) {
    throw new BatchError('InvalidQueryParameterValue', {
      QueryParameterName: 'api-version',
      QueryParameterValue: version,
    })
  }
}

function checkLength(exchange: Exchange): void {
  const { headers } = exchange.request
  const hasLength = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined
  if (!hasLength && ['POST', 'PUT', 'PATCH'].includes(exchange.method)) {
    throw new BatchError('MissingContentLengthHeader')
  }
}

function unauthenticated(refusal: Refusal): BatchError {
  return new BatchError(
    'AuthenticationFailed',
    { AuthenticationErrorDetail: refusal.detail },
    { 'www-authenticate': refusal.challenge },
  )
}

function route(exchange: Exchange): { readonly handler: Handler; readonly parameters: readonly string[] } {
  const segments = exchange.path.split('/')
  const sameShape = ROUTES.filter(([, path]) => {
    const parts = path.split('/')
    return (
      parts.length === segments.length &&
      parts.every((part, index) => part === '{}' || part === segments[index])
    )
  })
  if (sameShape.length === 0) throw new BatchError('InvalidUri')
  const found = sameShape.find(([method]) => method === exchange.method)
  if (found === undefined) throw new BatchError('UnsupportedHttpVerb')
  const [, path, handler] = found
  const raw = segments.filter((_, index) => path.split('/')[index] === '{}')
  try {
    return { handler, parameters: raw.map(decodeURIComponent) }
  } catch {
    throw new BatchError('InvalidUri')
  }
}

async function readJson(call: Call): Promise<Record<string, unknown>> {
  const { exchange } = call
  const contentType = exchange.header('content-type') ?? ''
  // Older versions of the service refuse anything else, and a gateway must not have touched it.
  if (!/^application\/json *;.*odata=minimalmetadata/i.test(contentType)) {
    throw new BatchError('InvalidHeaderValue', {
      HeaderName: 'Content-Type',
      HeaderValue: contentType,
      Reason: 'Send application/json; odata=minimalmetadata',
    })
  }
  const text = await exchange.text(MAX_BODY_BYTES)
  if (text === undefined) throw new BatchError('RequestBodyTooLarge', { MaxLimit: String(MAX_BODY_BYTES) })
  try {
    const parsed: unknown = JSON.parse(text)
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) {
      return parsed as Record<string, unknown>
    }
  } catch {
    // answered below
  }
  throw new BatchError('InvalidRequestBody')
}

/** Reads what an action was given; most actions need nothing. */
async function readOptional(call: Call): Promise<void> {
  const { headers } = call.exchange.request
  if (headers['content-length'] === '0' || headers['content-type'] === undefined) return
  const text = await call.exchange.text(MAX_BODY_BYTES)
  if (text === undefined) throw new BatchError('RequestBodyTooLarge', { MaxLimit: String(MAX_BODY_BYTES) })
}

/** If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since; true: answer 304. */
function isUnchanged(call: Call, version: Version): boolean {
  const { exchange } = call
  const etag = (name: string) => exchange.header(name)?.replace(/^"(.*)"$/, '$1')
  const seconds = (name: string) => Math.floor(Date.parse(exchange.header(name) ?? '') / 1000)
  const modified = Math.floor(version.lastModified / 1000)
  const ifMatch = etag('if-match')
  if (ifMatch !== undefined && ifMatch !== '*' && ifMatch !== version.etag)
    throw new BatchError('ConditionNotMet')
  if (modified > seconds('if-unmodified-since')) throw new BatchError('ConditionNotMet')
  const ifNoneMatch = etag('if-none-match')
  const same =
    ifNoneMatch === undefined
      ? modified <= seconds('if-modified-since')
      : ifNoneMatch === '*' || ifNoneMatch === version.etag
  if (!same) return false
  if (exchange.method === 'GET' || exchange.method === 'HEAD') return true
  throw new BatchError('ConditionNotMet')
}

// ---- jobs

function findJob(call: Call): Job {
  const job = call.account.jobs.get(call.parameters[0]!)
  if (job === undefined) throw new BatchError('JobNotFound')
  return job
}

async function addJob(call: Call): Promise<Answer> {
  const { id, ...settings } = await readJson(call)
  const { jobs } = call.account
  if (jobs.has(checkId(id))) throw new BatchError('JobExists')
  if (settings['poolInfo'] === undefined)
    throw new BatchError('MissingRequiredProperty', { PropertyName: 'poolInfo' })
  const job = call.account.addJob(checkId(id), settings)
  return created(call, jobUrl(call, job.id), job.version)
}

async function changeJob(call: Call, keep: (job: Job) => Record<string, unknown>): Promise<Answer> {
  const job = findJob(call)
  isUnchanged(call, job.version)
  job.settings = { ...keep(job), ...(await readJson(call)) }
  call.account.touch(job)
  return done(200, jobUrl(call, job.id), job.version)
}

function deleteJob(call: Call): Answer {
  const job = findJob(call)
  isUnchanged(call, job.version)
  call.account.jobs.delete(job.id)
  return { status: 202, body: '' }
}

async function moveJob(call: Call, state: Job['state']): Promise<Answer> {
  const job = findJob(call)
  isUnchanged(call, job.version)
  await readOptional(call)
  if (job.state === 'completed') throw new BatchError('JobCompleted')
  job.state = state
  call.account.touch(job)
  return done(202, jobUrl(call, job.id), job.version)
}

function jobBody(call: Call, job: Job): Record<string, unknown> {
  const since = longTime(job.created)
  return {
    id: job.id,
    url: jobUrl(call, job.id),
    eTag: job.version.etag,
    lastModified: longTime(job.version.lastModified),
    creationTime: since,
    state: job.state,
    stateTransitionTime: longTime(job.version.lastModified),
    priority: 0,
    maxParallelTasks: -1,
    usesTaskDependencies: false,
    onAllTasksComplete: 'noaction',
    onTaskFailure: 'noaction',
    constraints: { maxWallClockTime: 'P10675199DT2H48M5.4775807S', maxTaskRetryCount: 0 },
    ...job.settings,
    executionInfo: { startTime: since, poolId: poolIdOf(job) },
  }
}

function poolIdOf(job: Job): string {
  const info = job.settings['poolInfo'] as { readonly poolId?: string } | undefined
  return info?.poolId ?? 'pool-1'
}

function countTasks(call: Call): Answer {
  const succeeded = findJob(call).tasks.size
  const counts = { active: 0, running: 0, completed: succeeded, succeeded, failed: 0 }
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, 'taskcountsresult/@Element'),
    taskCounts: counts,
    taskSlotCounts: counts,
  })
}

// ---- tasks

function findTask(call: Call): Task {
  const task = findJob(call).tasks.get(call.parameters[1]!)
  if (task === undefined) throw new BatchError('TaskNotFound')
  return task
}

async function addTask(call: Call): Promise<Answer> {
  const job = findJob(call)
  const { id, ...settings } = await readJson(call)
  if (job.tasks.has(checkId(id))) throw new BatchError('TaskExists')
  const task = call.account.addTask(job, checkId(id), settings)
  return created(call, taskUrl(call, task), task.version)
}

/** Each task succeeds or fails by itself; the answer is 200 all the same. */
async function addTasks(call: Call): Promise<Answer> {
  const job = findJob(call)
  const { value } = await readJson(call)
  if (!Array.isArray(value)) throw new BatchError('MissingRequiredProperty', { PropertyName: 'value' })
  if (value.length > MAX_TASKS_PER_CALL) {
    throw new BatchError('RequestBodyTooLarge', { MaxTasks: String(MAX_TASKS_PER_CALL) })
  }
  const results = (value as Record<string, unknown>[]).map(({ id, ...settings }) => {
    const taskId = checkId(id)
    if (job.tasks.has(taskId)) {
      const message = errorMessage(ERRORS.TaskExists[1], requestId(call.exchange), call.clock.now())
      return { status: 'clienterror', taskId, error: { code: 'TaskExists', message } }
    }
    const task = call.account.addTask(job, taskId, settings)
    return {
      status: 'success',
      taskId,
      eTag: task.version.etag,
      lastModified: longTime(task.version.lastModified),
      location: taskUrl(call, task),
    }
  })
  return jsonAnswer({ 'odata.metadata': metadata(call.exchange, 'taskaddresult'), value: results })
}

function deleteTask(call: Call): Answer {
  const task = findTask(call)
  isUnchanged(call, task.version)
  findJob(call).tasks.delete(task.id)
  return { status: 200, body: '' }
}

async function terminateTask(call: Call): Promise<Answer> {
  const task = findTask(call)
  isUnchanged(call, task.version)
  await readOptional(call)
  return done(204, taskUrl(call, task), task.version)
}

function taskBody(call: Call, task: Task): Record<string, unknown> {
  const time = longTime(task.created)
  const job = call.account.jobs.get(task.jobId)
  const poolId = job === undefined ? 'pool-1' : poolIdOf(job)
  const nodeId = `tvmps_${poolId}_1`
  const nodeUrl = `${call.exchange.origin}/pools/${encodeURIComponent(poolId)}/nodes/${encodeURIComponent(nodeId)}`
  const taskRootDirectory = `workitems/${task.jobId}/job-1/${task.id}`
  return {
    id: task.id,
    url: taskUrl(call, task),
    eTag: task.version.etag,
    creationTime: time,
    lastModified: longTime(task.version.lastModified),
    state: 'completed',
    stateTransitionTime: time,
    previousState: 'running',
    previousStateTransitionTime: time,
    ...task.settings,
    nodeInfo: {
      affinityId: `TVM:${nodeId}`,
      nodeUrl,
      poolId,
      nodeId,
      taskRootDirectory,
      taskRootDirectoryUrl: `${nodeUrl}/files/${taskRootDirectory}`,
    },
    executionInfo: {
      startTime: time,
      endTime: time,
      exitCode: 0,
      result: 'success',
      retryCount: 0,
      requeueCount: 0,
    },
  }
}

// ---- files of tasks

function findFile(call: Call): { readonly task: Task; readonly file: TaskFile } {
  const task = findTask(call)
  const file = task.files.get(call.parameters[2]!)
  if (file === undefined) throw new BatchError('FileNotFound')
  return { task, file }
}

function listFiles(call: Call): Answer {
  const task = findTask(call)
  const recursive = call.exchange.query.get('recursive')?.toLowerCase() === 'true'
  const files = [...task.files.values()].filter(({ name }) => recursive || !name.includes('/'))
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, 'files'),
    value: files.map(file => ({
      name: file.name,
      url: fileUrl(call, task, file),
      isDirectory: file.isDirectory,
      ...(file.isDirectory
        ? {}
        : {
            properties: {
              creationTime: longTime(task.created),
              lastModified: longTime(task.created),
              contentLength: String(file.bytes),
              contentType: 'application/octet-stream',
              fileMode: FILE_MODE,
            },
          }),
    })),
  })
}

const FILE_MODE = '0o100644'

/** GET is chunked and has no length; HEAD has the length. A range is asked for with `ocp-range` and answered with 200. */
function readFile(call: Call): Answer {
  const { task, file } = findFile(call)
  const { start, end } = readRange(call.exchange.header('ocp-range'), file.bytes)
  return {
    status: 200,
    headers: {
      'content-type': 'application/octet-stream',
      'last-modified': new Date(task.created).toUTCString(),
      'ocp-creation-time': new Date(task.created).toUTCString(),
      'ocp-batch-file-isdirectory': file.isDirectory ? 'True' : 'False',
      'ocp-batch-file-mode': FILE_MODE,
      'ocp-batch-file-url': encodeURIComponent(fileUrl(call, task, file)),
      ...(call.exchange.method === 'HEAD' ? { 'content-length': String(file.bytes) } : {}),
    },
    body: file.read(start, end),
  }
}

/** `bytes=a-b`, `bytes=a-`; `end` is exclusive. */
function readRange(
  header: string | undefined,
  size: number,
): { readonly start: number; readonly end: number } {
  if (header === undefined) return { start: 0, end: size }
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(header) ?? []
  if (first === undefined)
    throw new BatchError('InvalidHeaderValue', { HeaderName: 'ocp-range', HeaderValue: header })
  const start = Number(first)
  const end = last === '' || last === undefined ? size : Math.min(Number(last) + 1, size)
  if (start >= end) throw new BatchError('InvalidRange')
  return { start, end }
}

function deleteFile(call: Call): Answer {
  const { task, file } = findFile(call)
  task.files.delete(file.name)
  return { status: 200, body: '' }
}

// ---- pools and nodes

function findPool(call: Call): Pool {
  const pool = call.account.pools.get(call.parameters[0]!)
  if (pool === undefined) throw new BatchError('PoolNotFound')
  return pool
}

async function addPool(call: Call): Promise<Answer> {
  const { id, ...settings } = await readJson(call)
  if (call.account.pools.has(checkId(id))) throw new BatchError('PoolExists')
  const pool = call.account.addPool(checkId(id), settings)
  return created(call, poolUrl(call, pool.id), pool.version)
}

async function changePool(call: Call): Promise<Answer> {
  const pool = findPool(call)
  isUnchanged(call, pool.version)
  pool.settings = { ...pool.settings, ...(await readJson(call)) }
  call.account.touch(pool)
  return done(200, poolUrl(call, pool.id), pool.version)
}

function deletePool(call: Call): Answer {
  const pool = findPool(call)
  isUnchanged(call, pool.version)
  call.account.pools.delete(pool.id)
  return { status: 202, body: '' }
}

/** Resize and stopresize. The new size is reached at once. */
async function movePool(call: Call): Promise<Answer> {
  const pool = findPool(call)
  isUnchanged(call, pool.version)
  if (call.exchange.path.endsWith('/resize')) pool.settings = { ...pool.settings, ...(await readJson(call)) }
  else await readOptional(call)
  call.account.touch(pool)
  return done(202, poolUrl(call, pool.id), pool.version)
}

function poolBody(call: Call, pool: Pool): Record<string, unknown> {
  const nodes = call.account.nodes(pool).length
  return {
    id: pool.id,
    url: poolUrl(call, pool.id),
    eTag: pool.version.etag,
    lastModified: longTime(pool.version.lastModified),
    creationTime: longTime(pool.created),
    state: 'active',
    stateTransitionTime: longTime(pool.created),
    allocationState: 'steady',
    allocationStateTransitionTime: longTime(pool.version.lastModified),
    currentDedicatedNodes: nodes,
    currentLowPriorityNodes: 0,
    targetDedicatedNodes: nodes,
    targetLowPriorityNodes: 0,
    taskSlotsPerNode: 1,
    ...pool.settings,
  }
}

function listNodes(call: Call): Answer {
  const pool = findPool(call)
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, 'nodes'),
    value: call.account.nodes(pool).map(id => nodeBody(call, pool, id)),
  })
}

function getNode(call: Call): Answer {
  const pool = findPool(call)
  const id = call.account.nodes(pool).find(node => node === call.parameters[1])
  if (id === undefined) throw new BatchError('NodeNotFound')
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, 'nodes/@Element'),
    ...nodeBody(call, pool, id),
  })
}

function nodeBody(call: Call, pool: Pool, id: string): Record<string, unknown> {
  return {
    id,
    url: `${poolUrl(call, pool.id)}/nodes/${encodeURIComponent(id)}`,
    state: 'idle',
    schedulingState: 'enabled',
    stateTransitionTime: longTime(pool.created),
    affinityId: `TVM:${id}`,
    vmSize: pool.settings['vmSize'],
    totalTasksRun: 0,
  }
}

// ---- answers

/** One page of a list; the link to the next keeps every other query parameter. */
function list<T>(
  call: Call,
  name: string,
  collection: Collection<T>,
  body: (call: Call, item: T) => Record<string, unknown>,
): Answer {
  const { query, origin, path } = call.exchange
  const wanted = query.get('maxresults')
  const size = wanted === null ? call.pageSize : Number(wanted)
  if (!Number.isInteger(size) || size < 1 || size > 1000) {
    throw new BatchError('InvalidQueryParameterValue', {
      QueryParameterName: 'maxresults',
      QueryParameterValue: wanted ?? '',
      Reason: 'Ask for 1 to 1000 results.',
    })
  }
  const after = /^WATV2:(\d+)$/.exec(query.get('$skipToken') ?? 'WATV2:0')?.[1]
  if (after === undefined)
    throw new BatchError('InvalidQueryParameterValue', { QueryParameterName: '$skipToken' })
  const page = collection.page(Math.min(size, call.pageSize), after)
  const others = new URLSearchParams([...query].filter(([key]) => key !== '$skipToken'))
  // "$" stays bare, as in the service's own links.
  const link = `${origin}${path}?$skipToken=WATV2%3A${page.next}&${others.toString().replaceAll('%24', '$')}`
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, name),
    value: page.items.map(item => body(call, item)),
    ...(page.next === undefined ? {} : { 'odata.nextLink': link }),
  })
}

function one<T extends { readonly version: Version }>(
  call: Call,
  name: string,
  item: T,
  body: (call: Call, item: T) => Record<string, unknown>,
): Answer {
  const headers = versionHeaders(item.version)
  if (isUnchanged(call, item.version)) return { status: 304, headers }
  const answer = jsonAnswer({
    'odata.metadata': metadata(call.exchange, `${name}/@Element`),
    ...body(call, item),
  })
  return { ...answer, headers: { ...answer.headers, ...headers } }
}

function created(call: Call, url: string, version: Version): Answer {
  const answer = done(201, url, version)
  return { ...answer, headers: { ...answer.headers, location: url } }
}

/** An empty answer that names the resource. */
function done(status: number, url: string, version: Version): Answer {
  return { status, headers: { ...versionHeaders(version), dataserviceid: url }, body: '' }
}

function versionHeaders(version: Version): Record<string, string> {
  return { etag: version.etag, 'last-modified': new Date(version.lastModified).toUTCString() }
}

function jsonAnswer(body: unknown): Answer {
  return { status: 200, headers: { 'content-type': JSON_TYPE }, body: render(body) }
}

/** Batch writes its JSON on many lines that end in CR LF. */
function render(body: unknown): string {
  return JSON.stringify(body, null, 2).replaceAll('\n', '\r\n')
}

function withCommonHeaders(exchange: Exchange, answer: Answer): Answer {
  const clientRequestId = exchange.header('client-request-id')
  const echo = exchange.header('return-client-request-id')?.toLowerCase() === 'true'
  return {
    ...answer,
    headers: {
      server: 'Microsoft-HTTPAPI/2.0',
      'request-id': requestId(exchange),
      'strict-transport-security': 'max-age=31536000; includeSubDomains',
      'x-content-type-options': 'nosniff',
      dataserviceversion: '3.0',
      ...(echo && clientRequestId !== undefined ? { 'client-request-id': clientRequestId } : {}),
      ...answer.headers,
    },
  }
}

const requestIds = new WeakMap<Exchange, string>()

/** The same id in the header and in an error's message. */
function requestId(exchange: Exchange): string {
  const known = requestIds.get(exchange)
  if (known !== undefined) return known
  const id = randomUUID()
  requestIds.set(exchange, id)
  return id
}

function errorMessage(text: string, id: string, now: number): Record<string, string> {
  return { lang: 'en-US', value: `${text}\nRequestId:${id}\nTime:${longTime(now)}` }
}

/** Seven decimals, as .NET writes them. */
function longTime(epochMs: number): string {
  return new Date(epochMs).toISOString().replace('Z', '0000Z')
}

function metadata(exchange: Exchange, fragment: string): string {
  return `${exchange.origin}/$metadata#${fragment}`
}

function jobUrl(call: Call, id: string): string {
  return `${call.exchange.origin}/jobs/${encodeURIComponent(id)}`
}

function taskUrl(call: Call, task: Task): string {
  return `${jobUrl(call, task.jobId)}/tasks/${encodeURIComponent(task.id)}`
}

function fileUrl(call: Call, task: Task, file: TaskFile): string {
  return `${taskUrl(call, task)}/files/${file.name}`
}

function poolUrl(call: Call, id: string): string {
  return `${call.exchange.origin}/pools/${encodeURIComponent(id)}`
}

/** Ids of jobs, tasks and pools: letters, digits, `-`, `_`, up to 64. */
function checkId(id: unknown): string {
  if (typeof id === 'string' && /^[\w-]{1,64}$/.test(id)) return id
  throw new BatchError('InvalidInput', { PropertyName: 'id' })
}
