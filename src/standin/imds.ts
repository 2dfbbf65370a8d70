// The managed identity endpoints of the stand-in: a virtual machine's IMDS and App Service's.
// Wire format: Azure documentation, "How managed identities for Azure resources work with Azure virtual machines".

import type { Answer, Exchange, Service } from './exchange.ts'
import { answerWithToken, json } from './token-answers.ts'
import type { Subject, TokenIssuer } from './tokens.ts'

export interface ManagedIdentities {
  readonly systemAssigned: Subject & { readonly resourceId: string }
  readonly userAssigned: Subject & { readonly resourceId: string }
}

export interface ImdsOptions {
  readonly issuer: TokenIssuer
  readonly identities: ManagedIdentities
  readonly tokenLifeSeconds: number
  /** What App Service calls IDENTITY_HEADER. */
  readonly appServiceHeader: string
}

export const IMDS_PATH = '/metadata/identity/oauth2/token'
export const APP_SERVICE_PATH = '/msi/token'

/** How the two kinds name the same query parameters. */
const ID_PARAMETERS = {
  imds: { clientId: 'client_id', objectId: 'object_id', resourceId: 'msi_res_id' },
  appService: { clientId: 'client_id', objectId: 'object_id', resourceId: 'mi_res_id' },
} as const

export class ImdsService implements Service {
  readonly #options: ImdsOptions

  constructor(options: ImdsOptions) {
    this.#options = options
  }

  answer(exchange: Exchange): Promise<Answer> | Answer {
    const { path } = exchange
    const isImds = path === IMDS_PATH || path === `${IMDS_PATH}/`
    if (!isImds && path !== APP_SERVICE_PATH) return failed(404, 'not_found', `There is nothing at ${path}.`)
    if (exchange.method !== 'GET') return failed(405, 'method_not_allowed', 'Only GET is supported.')
    const refusal = isImds ? refuseImds(exchange) : this.#refuseAppService(exchange)
    return refusal ?? this.#token(exchange, isImds ? 'imds' : 'appService')
  }

  failure(status: number): Answer {
    if (status === 429) return failed(429, 'too_many_requests', 'Too many requests.')
    if (status === 410)
      return failed(410, 'gone', 'The service is being updated. Try again within 70 seconds.')
    return failed(status, status >= 500 ? 'unknown' : 'invalid_request', 'Failed to retrieve the token.')
  }

  #refuseAppService(exchange: Exchange): Answer | undefined {
    if (exchange.header('x-identity-header') === this.#options.appServiceHeader) return undefined
    return failed(401, 'unauthorized', 'The X-IDENTITY-HEADER is missing or wrong.')
  }

  #token(exchange: Exchange, kind: keyof typeof ID_PARAMETERS): Promise<Answer> | Answer {
    const resource = exchange.query.get('resource')
    if (!exchange.query.get('api-version')) {
      return failed(400, 'invalid_request', "Required query variable 'api-version' is missing")
    }
    if (!resource) return failed(400, 'invalid_request', "Required query variable 'resource' is missing")
    const subject = this.#find(exchange.query, kind)
    exchange.log.asked(exchange.entry, {
      scope: resource,
      grantType: 'managed_identity',
      ...(subject === undefined ? {} : { clientId: subject.clientId }),
    })
    if (subject === undefined) return failed(400, 'invalid_request', 'Identity not found')
    return answerWithToken(
      exchange,
      this.#options.issuer,
      { audience: resource, subject, lifeSeconds: this.#options.tokenLifeSeconds },
      (claims, life) => ({
        client_id: claims.appid,
        expires_in: String(life),
        expires_on: String(claims.exp),
        ext_expires_in: String(life),
        not_before: String(claims.nbf),
        resource,
        token_type: 'Bearer',
      }),
    )
  }

  /** The identity asked for; without an id the system-assigned one. */
  #find(query: URLSearchParams, kind: keyof typeof ID_PARAMETERS): Subject | undefined {
    const { systemAssigned, userAssigned } = this.#options.identities
    const ids = (['clientId', 'objectId', 'resourceId'] as const).flatMap(name => {
      const value = query.get(ID_PARAMETERS[kind][name])
      return value === null ? [] : [{ name, value }]
    })
    if (ids.length === 0) return systemAssigned
    return [systemAssigned, userAssigned].find(identity =>
      ids.every(({ name, value }) => identity[name].toLowerCase() === value.toLowerCase()),
    )
  }
}

function refuseImds(exchange: Exchange): Answer | undefined {
  if (exchange.header('x-forwarded-for') !== undefined) {
    return failed(400, 'invalid_request', 'Requests with an X-Forwarded-For header are refused')
  }
  if (exchange.header('metadata')?.toLowerCase() !== 'true') {
    return failed(400, 'invalid_request', 'Required metadata header not specified')
  }
  return undefined
}

function failed(status: number, error: string, description: string): Answer {
  return json(status, { error, error_description: description })
}
