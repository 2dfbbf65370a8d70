// The HTTP client under the identity library: bounds each request in time, keeps the metadata service off
// proxies, and notes what happened on the network, which the library's errors leave out.

import { AsyncLocalStorage } from 'node:async_hooks'
import type { SecureContext } from 'node:tls'
import type { HttpClient, PipelineRequest, PipelineResponse } from '@azure/core-rest-pipeline'
import type { Clock } from '../clock.ts'
import { findAadsts, type NetworkFact } from './failures.ts'

/** Filled with the last fact while `observeNetwork` runs. */
export interface NetworkLog {
  last?: NetworkFact
}

// The library keeps the pipeline of the first managed identity it sees for all later ones, so a client cannot
// know by itself for whom it works; the asynchronous context does.
const observed = new AsyncLocalStorage<NetworkLog>()

export function observeNetwork<Result>(log: NetworkLog, work: () => Promise<Result>): Promise<Result> {
  return observed.run(log, work)
}

export interface IdentityHttpOptions {
  /** The longest one request may take; the library itself waits for ever. */
  readonly timeoutMs: number
  readonly clock: Clock
  /** What is trusted instead of the default authorities. */
  readonly secureContext?: SecureContext | undefined
}

export async function createIdentityHttpClient(options: IdentityHttpOptions): Promise<HttpClient> {
  const { timeoutMs, clock, secureContext } = options
  const { createDefaultHttpClient } = await import('@azure/core-rest-pipeline')
  const client = createDefaultHttpClient()
  return {
    async sendRequest(request: PipelineRequest): Promise<PipelineResponse> {
      const { host, hostname } = new URL(request.url)
      request.timeout = Math.min(request.timeout || timeoutMs, timeoutMs)
      // Not the library's `tlsOptions`: those are dropped behind a proxy, and parse every authority per connection.
      if (secureContext !== undefined)
        request.requestOverrides = { ...request.requestOverrides, secureContext }
      // With HTTP_PROXY and no NO_PROXY the library sends this, too, to the proxy, and the credential with it.
      if (METADATA_HOSTS.has(hostname)) {
        delete request.agent
        delete request.proxySettings
      }
      try {
        const response = await client.sendRequest(request)
        note({ host, status: response.status, ...readAnswer(response, clock) })
        return response
      } catch (error) {
        note({ host, code: networkCode(error) })
        throw error
      }
    },
  }
}

const METADATA_HOSTS: ReadonlySet<string> = new Set(['169.254.169.254', '127.0.0.1', 'localhost', '[::1]'])

function note(fact: NetworkFact): void {
  const log = observed.getStore()
  if (log !== undefined) log.last = fact
}

function networkCode(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  if (error.name === 'AbortError') return 'TIMEOUT'
  const code = 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : error.name
}

function readAnswer(response: PipelineResponse, clock: Clock): Partial<NetworkFact> {
  if (response.status < 400) return {}
  const retryAfterMs = readRetryAfter(response.headers.get('retry-after'), clock)
  return {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...readErrorBody(response.bodyAsText ?? ''),
  }
}

/** Milliseconds; the header holds seconds or a date (RFC 9110 section 10.2.3). */
function readRetryAfter(value: string | undefined, clock: Clock): number | undefined {
  if (value === undefined) return undefined
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - clock.now()
  return Number.isFinite(ms) && ms > 0 ? ms : undefined
}

/** Only what cannot hold a secret: a word, a number and a GUID. */
function readErrorBody(text: string): Partial<NetworkFact> {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return {}
  }
  if (typeof body !== 'object' || body === null) return {}
  const {
    error,
    error_codes: codes,
    error_description: description,
    correlation_id: id,
  } = body as {
    error?: unknown
    error_codes?: unknown
    error_description?: unknown
    correlation_id?: unknown
  }
  const first: unknown = Array.isArray(codes) ? codes[0] : undefined
  const aadsts = Number.isSafeInteger(first) ? (first as number) : findAadsts(String(description ?? ''))
  return {
    ...(typeof error === 'string' && /^[a-z_]{1,40}$/.test(error) ? { error } : {}),
    ...(aadsts === undefined ? {} : { aadsts }),
    ...(typeof id === 'string' && /^[0-9a-f-]{36}$/i.test(id) ? { correlationId: id } : {}),
  }
}
