// One request to the Batch account on its way to a handler: what it brings, checked as Batch checks it.

import type { Clock } from '../clock.ts'
import type { BatchAccount, Version } from './batch-account.ts'
import { BatchError } from './batch-errors.ts'
import type { Answer, Exchange } from './exchange.ts'

/** One request on its way to a handler. */
export interface Call {
  readonly account: BatchAccount
  readonly exchange: Exchange
  readonly pageSize: number
  readonly clock: Clock
  /** The `{}` parts of the path, decoded, in order. */
  readonly parameters: readonly string[]
}

export type Handler = (call: Call) => Answer | Promise<Answer>

const MAX_BODY_BYTES = 1024 * 1024

export async function readJson(call: Call): Promise<Record<string, unknown>> {
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
export async function readOptional(call: Call): Promise<void> {
  const { headers } = call.exchange.request
  if (headers['content-length'] === '0' || headers['content-type'] === undefined) return
  const text = await call.exchange.text(MAX_BODY_BYTES)
  if (text === undefined) throw new BatchError('RequestBodyTooLarge', { MaxLimit: String(MAX_BODY_BYTES) })
}

/** If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since; true: answer 304. */
export function isUnchanged(call: Call, version: Version): boolean {
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

/** Ids of jobs, tasks and pools: letters, digits, `-`, `_`, up to 64. */
export function checkId(id: unknown): string {
  if (typeof id === 'string' && /^[\w-]{1,64}$/.test(id)) return id
  throw new BatchError('InvalidInput', { PropertyName: 'id' })
}
