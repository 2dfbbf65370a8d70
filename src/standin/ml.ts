// The Azure Machine Learning endpoints of the stand-in: an online endpoint that scores and streams, a batch endpoint
// that takes jobs. Wire format: Azure Machine Learning documentation on authenticating to and invoking endpoints.

import { randomUUID } from 'node:crypto'
import type { BearerCheck, Refusal } from './bearer.ts'
import type { Answer, Exchange, Service } from './exchange.ts'
import { answerScratch } from './scratch.ts'

const DEFAULT_DEPLOYMENT = 'blue'
const DEPLOYMENT_HEADER = 'azureml-model-deployment'

export interface OnlineEndpointOptions {
  readonly bearer: BearerCheck
  /** Events of a streamed answer. */
  readonly sse: { readonly events: number; readonly intervalMs: number }
}

/** `POST /score`, `GET /`, `GET /swagger.json`. */
export class OnlineEndpoint implements Service {
  readonly #options: OnlineEndpointOptions

  constructor(options: OnlineEndpointOptions) {
    this.#options = options
  }

  async answer(exchange: Exchange): Promise<Answer> {
    const answer = (await refuse(this.#options.bearer, exchange)) ?? (await this.#serve(exchange))
    return withCommonHeaders(exchange, answer)
  }

  failure(status: number, exchange: Exchange): Answer {
    return withCommonHeaders(exchange, endpointFailure(status, this.#options.bearer))
  }

  async #serve(exchange: Exchange): Promise<Answer> {
    const scratch = await answerScratch(exchange)
    if (scratch !== undefined) return scratch
    switch (`${exchange.method} ${exchange.path}`) {
      case 'GET /':
        return text(200, 'Healthy')
      case 'GET /swagger.json':
        return json(200, { swagger: '2.0', info: { title: 'score', version: '1' }, paths: { '/score': {} } })
      case 'POST /score':
        return this.#score(exchange)
      default:
        return text(404, 'Not found')
    }
  }

  async #score(exchange: Exchange): Promise<Answer> {
    const input = parse((await exchange.text(16 * 1024 * 1024)) ?? '')
    if (input === undefined) return modelError(400, 'model_error', 'The body is not JSON.')
    if (/\btext\/event-stream\b/i.test(exchange.header('accept') ?? '')) return this.#stream(exchange)
    const rows = Array.isArray(input['data']) ? (input['data'] as unknown[]) : []
    return json(200, rows.map(sum))
  }

  #stream(exchange: Exchange): Answer {
    const { events, intervalMs } = this.#options.sse
    async function* body(): AsyncGenerator<Buffer> {
      for (let index = 0; index < events; index += 1) {
        if (index > 0) await exchange.pause(intervalMs)
        yield Buffer.from(`data: ${JSON.stringify({ answer: `part ${index + 1} of ${events}` })}\n\n`)
      }
    }
    return {
      status: 200,
      headers: { 'content-type': 'text/event-stream; charset=utf-8', connection: 'close' },
      body: body(),
    }
  }
}

export interface BatchEndpointOptions {
  readonly bearer: BearerCheck
  readonly subscriptionId: string
}

/** The states a job is seen in, one per poll; the last one stays. */
const JOB_STATES = ['Preparing', 'Running', 'Completed'] as const
const OPERATION_STATES = ['InProgress', 'Succeeded'] as const
/** The workspace's own front end: a host that no token for the endpoint is meant for. */
const WORKSPACE_ORIGIN = 'https://westus2.api.azureml.ms'

/**
 * `POST /jobs` and `GET /jobs/{name}`; and the management form of a long operation, `PUT /subscriptions/…` with polling
 * URLs of its own origin in headers and body, at `GET /operations/{id}`.
 */
export class BatchEndpoint implements Service {
  readonly #options: BatchEndpointOptions
  /** By job name or operation id: how often it was polled. */
  readonly #polls = new Map<string, number>()

  constructor(options: BatchEndpointOptions) {
    this.#options = options
  }

  /** Forgets all jobs. */
  reset(): void {
    this.#polls.clear()
  }

  async answer(exchange: Exchange): Promise<Answer> {
    const answer = (await refuse(this.#options.bearer, exchange)) ?? (await this.#serve(exchange))
    return withCommonHeaders(exchange, answer)
  }

  failure(status: number, exchange: Exchange): Answer {
    return withCommonHeaders(exchange, endpointFailure(status, this.#options.bearer))
  }

  async #serve(exchange: Exchange): Promise<Answer> {
    const scratch = await answerScratch(exchange)
    if (scratch !== undefined) return scratch
    const { method, path } = exchange
    const [, root, name] = path.split('/')
    if (method === 'POST' && path === '/jobs') return this.#invoke(exchange)
    if (method === 'GET' && root === 'jobs' && name !== undefined) return this.#poll(exchange, name)
    if (method === 'PUT' && root === 'subscriptions') return this.#startOperation(exchange)
    if (method === 'GET' && root === 'operations' && name !== undefined) return this.#pollOperation(name)
    return userError(404, 'NotFound', `There is nothing at ${path}.`)
  }

  async #invoke(exchange: Exchange): Promise<Answer> {
    const body = parse((await exchange.text()) ?? '')
    const properties = body?.['properties'] as Record<string, unknown> | undefined
    if (properties === undefined) return userError(400, 'BadArgument', 'The body has no member "properties".')
    const name = `batchjob-${randomUUID()}`
    this.#polls.set(name, 0)
    const inputData = properties['inputData'] ?? properties['InputData'] ?? null
    const path = this.#jobPath(exchange, name)
    const location = `${WORKSPACE_ORIGIN}/mferp/managementfrontend${path}?api-version=2020-09-01-dataplanepreview`
    return json(201, this.#jobBody(exchange, name, JOB_STATES[0], inputData), { location })
  }

  #poll(exchange: Exchange, name: string): Answer {
    const state = this.#advance(name, JOB_STATES)
    if (state === undefined) return userError(404, 'UserError', `Job ${name} was not found.`)
    return json(200, this.#jobBody(exchange, name, state, null))
  }

  async #startOperation(exchange: Exchange): Promise<Answer> {
    const body = parse((await exchange.text()) ?? '') ?? {}
    const id = randomUUID()
    this.#polls.set(id, 0)
    const operation = `${exchange.origin}/operations/${id}?api-version=2023-10-01`
    const answer = {
      id: exchange.path,
      name: exchange.path.split('/').at(-1),
      properties: {
        ...(body['properties'] as Record<string, unknown> | undefined),
        provisioningState: 'Creating',
        properties: { AzureAsyncOperationUri: operation },
      },
    }
    return json(201, answer, {
      'azure-asyncoperation': operation,
      location: `${exchange.origin}/operations/${id}/result?api-version=2023-10-01`,
    })
  }

  #pollOperation(id: string): Answer {
    const status = this.#advance(id, OPERATION_STATES)
    if (status === undefined) return userError(404, 'NotFound', `Operation ${id} was not found.`)
    return json(200, { id: `/operations/${id}`, name: id, status })
  }

  /** The state to show now; the next poll sees the one after it. */
  #advance<State>(name: string, states: readonly State[]): State | undefined {
    const polls = this.#polls.get(name)
    if (polls === undefined) return undefined
    this.#polls.set(name, polls + 1)
    return states[Math.min(polls, states.length - 1)]
  }

  #jobPath(exchange: Exchange, name: string): string {
    const workspace = 'resourceGroups/standin/providers/Microsoft.MachineLearningServices/workspaces/standin'
    const endpoint = `batchEndpoints/heart/deployments/${deploymentOf(exchange)}/jobs/${name}`
    return `/subscriptions/${this.#options.subscriptionId}/${workspace}/${endpoint}`
  }

  #jobBody(exchange: Exchange, name: string, status: string, inputData: unknown): Record<string, unknown> {
    return {
      id: this.#jobPath(exchange, name),
      name,
      type: 'Microsoft.MachineLearningServices/workspaces/batchEndpoints/deployments/jobs',
      properties: {
        provisioningState: null,
        inputData,
        compute: { instanceCount: 1 },
        output: null,
        status,
        interactionEndpoints: {
          Tracking: { endpoint: `azureml://${new URL(WORKSPACE_ORIGIN).host}/mlflow/v1.0` },
          Studio: { endpoint: `https://ml.azure.com/runs/${name}` },
        },
        tags: {},
        properties: {},
        name: null,
      },
      systemData: { createdBy: 'entra-proxy stand-in', createdByType: 'Application' },
    }
  }
}

/** The front door's refusal, a plain text; undefined when the token is good. */
async function refuse(bearer: BearerCheck, exchange: Exchange): Promise<Answer | undefined> {
  const checked = await bearer.check(exchange)
  return 'reason' in checked ? refusalAnswer(checked) : undefined
}

function refusalAnswer(refusal: Refusal): Answer {
  const body = refusal.reason === 'malformed' ? 'key_auth_bad_header_forbidden' : 'key_auth_access_denied'
  return text(401, body, { 'www-authenticate': refusal.challenge })
}

function endpointFailure(status: number, bearer: BearerCheck): Answer {
  if (status === 401) return text(401, 'key_auth_access_denied', { 'www-authenticate': bearer.challenge() })
  if (status === 403) {
    const help = 'https://learn.microsoft.com/azure/machine-learning/how-to-authenticate-online-endpoint'
    return text(403, `Microsoft Entra Token denied by policy, please review ${help}`)
  }
  if (status === 424) return modelError(500, 'model_error', 'Internal Server Error')
  if (status === 429) return text(429, 'Too many requests')
  return text(status, `status ${status}`)
}

/** The container answered `status` itself; the endpoint turns that into a 424. */
function modelError(status: number, reason: string, body: string): Answer {
  return text(424, body, {
    'ms-azureml-model-error-statuscode': String(status),
    'ms-azureml-model-error-reason': reason,
  })
}

function withCommonHeaders(exchange: Exchange, answer: Answer): Answer {
  return {
    ...answer,
    headers: {
      server: 'azureml-frontdoor',
      [DEPLOYMENT_HEADER]: deploymentOf(exchange),
      'x-request-id': exchange.header('x-request-id') ?? randomUUID(),
      'x-ms-server-version': 'azmlinfsrv/1.4.0',
      'x-content-type-options': ['nosniff', 'nosniff'],
      ...answer.headers,
    },
  }
}

function deploymentOf(exchange: Exchange): string {
  return exchange.header(DEPLOYMENT_HEADER) ?? DEFAULT_DEPLOYMENT
}

function userError(status: number, code: string, message: string): Answer {
  return json(status, { error: { code, message, details: [] } })
}

function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  return sized(status, 'application/json; charset=utf-8', JSON.stringify(body), headers)
}

function text(status: number, body: string, headers: Readonly<Record<string, string>> = {}): Answer {
  return sized(status, 'text/plain; charset=utf-8', body, headers)
}

function sized(
  status: number,
  contentType: string,
  body: string,
  headers: Readonly<Record<string, string>>,
): Answer {
  return {
    status,
    headers: { 'content-type': contentType, 'content-length': String(Buffer.byteLength(body)), ...headers },
    body,
  }
}

function parse(body: string): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = JSON.parse(body)
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** The stand-in's model: it adds up each row. */
function sum(row: unknown): number {
  return [row].flat().reduce((total: number, value) => total + (typeof value === 'number' ? value : 0), 0)
}
