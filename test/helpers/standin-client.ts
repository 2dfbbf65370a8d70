// A stand-in for one test, closed after it, and a plain HTTP client that trusts its authority and nothing else.

import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import type { Test } from 'tap'
import { type Standin, type StandinOptions, startStandin } from '../../src/standin/standin.ts'

export const API_VERSION = 'api-version=2024-07-01.20.0'
export const BATCH_JSON = 'application/json; odata=minimalmetadata'

export interface Sent {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** On a connection of its own. */
  readonly fresh?: boolean
}

export interface Received {
  readonly status: number
  /** Lower-case names, repeats joined with `, `. */
  readonly headers: Readonly<Record<string, string>>
  readonly rawHeaders: readonly string[]
  readonly bytes: Buffer
  readonly text: string
  /** The body as JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests reach into it, and fail where it is not there
  json(): Record<string, any>
}

export interface StandinClient {
  readonly standin: Standin
  /** Sends and reads to the end; rejects when the connection ends before that. */
  send(url: string, sent?: Sent): Promise<Received>
  /** Sends and gives back the answer with its body unread. */
  open(url: string, sent?: Sent): Promise<IncomingMessage>
  /** An access token, from the stand-in's Entra. */
  token(scope: string, form?: Readonly<Record<string, string>>): Promise<string>
  /** `{ authorization: 'Bearer …' }` */
  bearer(scope: string): Promise<Record<string, string>>
  /** Posts a form to the token endpoint, the good credentials filled in. */
  askToken(form?: Readonly<Record<string, string>>, tenant?: string): Promise<Received>
}

export async function openStandin(t: Test, options: StandinOptions = {}): Promise<StandinClient> {
  const standin = await startStandin(options)
  const ca = standin.caPem
  const secure = new HttpsAgent({ ca, keepAlive: true })
  const plain = new HttpAgent({ keepAlive: true })
  t.teardown(async () => {
    secure.destroy()
    plain.destroy()
    await standin.close()
  })

  const open = (url: string, { method = 'GET', headers = {}, body, fresh = false }: Sent = {}) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
      const all = { ...length, ...headers }
      const request = url.startsWith('https:')
        ? requestHttps(
            url,
            { method, headers: all, agent: fresh ? new HttpsAgent({ ca: standin.caPem }) : secure },
            resolve,
          )
        : requestHttp(url, { method, headers: all, agent: plain }, resolve)
      request.on('error', reject)
      request.end(body)
    })
  const send = async (url: string, sent?: Sent) => receive(await open(url, sent))
  const askToken = (form: Readonly<Record<string, string>> = {}, tenant = standin.tenantId) => {
    const body = new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: standin.clientId,
      client_secret: standin.clientSecret,
      scope: standin.batch.scope,
      ...form,
    })
    const url = `${standin.entra.url}/${tenant}/oauth2/v2.0/token`
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    return send(url, { method: 'POST', headers, body: body.toString() })
  }
  const token = async (scope: string, form: Readonly<Record<string, string>> = {}) =>
    String((await askToken({ scope, ...form })).json()['access_token'])
  const bearer = async (scope: string) => ({ authorization: `Bearer ${await token(scope)}` })
  return { standin, send, open, token, bearer, askToken }
}

export async function receive(message: IncomingMessage): Promise<Received> {
  const chunks: Buffer[] = []
  for await (const chunk of message) chunks.push(chunk as Buffer)
  const bytes = Buffer.concat(chunks)
  return {
    status: message.statusCode ?? 0,
    headers: joined(message.headers),
    rawHeaders: message.rawHeaders,
    bytes,
    text: bytes.toString(),
    json: () => JSON.parse(bytes.toString()),
  }
}

function joined(headers: IncomingMessage['headers']): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value].flat().join(', ')]))
}
