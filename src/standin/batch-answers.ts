// What the answers of the Batch account look like: pages, single resources, empty ones, and the headers of all.

import { randomUUID } from 'node:crypto'
import type { Collection, Version } from './batch-account.ts'
import { type Call, isUnchanged } from './batch-call.ts'
import { BatchError, ERRORS } from './batch-errors.ts'
import type { Answer, Exchange } from './exchange.ts'

const JSON_TYPE = 'application/json;odata=minimalmetadata'

/** One page of a list; the link to the next keeps every other query parameter as it was written. */
export function list<T>(
  call: Call,
  name: string,
  collection: Collection<T>,
  body: (call: Call, item: T) => Record<string, unknown>,
): Answer {
  const { query, search, origin, path } = call.exchange
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
  const others = search.split('&').filter(pair => !/^(\$|%24)skipToken=/i.test(pair))
  const link = `${origin}${path}?${[`$skipToken=WATV2%3A${page.next}`, ...others].join('&')}`
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, name),
    value: page.items.map(item => body(call, item)),
    ...(page.next === undefined ? {} : { 'odata.nextLink': link }),
  })
}

export function one<T extends { readonly version: Version }>(
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

export function created(url: string, version: Version): Answer {
  const answer = done(201, url, version)
  return { ...answer, headers: { ...answer.headers, location: url } }
}

/** An empty answer that names the resource. */
export function done(status: number, url: string, version: Version): Answer {
  return { status, headers: { ...versionHeaders(version), dataserviceid: url }, body: '' }
}

function versionHeaders(version: Version): Record<string, string> {
  return { etag: version.etag, 'last-modified': new Date(version.lastModified).toUTCString() }
}

export function jsonAnswer(body: unknown): Answer {
  return { status: 200, headers: { 'content-type': JSON_TYPE }, body: render(body) }
}

/** Batch writes its JSON on many lines that end in CR LF. */
function render(body: unknown): string {
  return JSON.stringify(body, null, 2).replaceAll('\n', '\r\n')
}

export function withCommonHeaders(exchange: Exchange, answer: Answer): Answer {
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
export function requestId(exchange: Exchange): string {
  const known = requestIds.get(exchange)
  if (known !== undefined) return known
  const id = randomUUID()
  requestIds.set(exchange, id)
  return id
}

/** The body of an error: its code, a text for people, and what it was about. */
export function errorAnswer(exchange: Exchange, error: BatchError, now: number): Answer {
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
      message: errorMessage(error.message, requestId(exchange), now),
      ...(values.length === 0 ? {} : { values }),
    }),
  }
}

export function errorMessage(text: string, id: string, now: number): Record<string, string> {
  return { lang: 'en-US', value: `${text}\nRequestId:${id}\nTime:${longTime(now)}` }
}

/** Seven decimals, as .NET writes them. */
export function longTime(epochMs: number): string {
  return new Date(epochMs).toISOString().replace('Z', '0000Z')
}

export function metadata(exchange: Exchange, fragment: string): string {
  return `${exchange.origin}/$metadata#${fragment}`
}
