// The Batch account of the stand-in over HTTP: its routes, and what is checked before any handler.
// Wire format: Azure Batch REST API reference.

import type { Clock } from '../clock.ts'
import type { BatchAccount } from './batch-account.ts'
import { errorAnswer, list, one, withCommonHeaders } from './batch-answers.ts'
import type { Handler } from './batch-call.ts'
import { BatchError, ERROR_BY_STATUS } from './batch-errors.ts'
import {
  addJob,
  addTask,
  addTasks,
  changeJob,
  countTasks,
  deleteFile,
  deleteJob,
  deleteTask,
  findJob,
  findTask,
  jobBody,
  listFiles,
  moveJob,
  readFile,
  taskBody,
  terminateTask,
} from './batch-jobs.ts'
import {
  addPool,
  changePool,
  deletePool,
  findPool,
  getNode,
  listNodes,
  movePool,
  poolBody,
} from './batch-pools.ts'
import type { BearerCheck, Refusal } from './bearer.ts'
import type { Answer, Exchange, Service } from './exchange.ts'
import { answerScratch } from './scratch.ts'

export interface BatchOptions {
  readonly account: () => BatchAccount
  readonly bearer: BearerCheck
  readonly clock: Clock
  readonly pageSize: number
}

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
      return withCommonHeaders(exchange, errorAnswer(exchange, error, this.#options.clock.now()))
    }
  }

  failure(status: number, exchange: Exchange): Answer {
    const code = ERROR_BY_STATUS[status] ?? (status < 500 ? 'InvalidInput' : 'InternalError')
    const headers = status === 401 ? { 'www-authenticate': this.#options.bearer.challenge() } : undefined
    const answer = errorAnswer(exchange, new BatchError(code, {}, headers), this.#options.clock.now())
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
}

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
