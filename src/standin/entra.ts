// The Entra of the stand-in: discovery, keys, and the v2 token endpoint for client credentials.
// Wire format: Microsoft identity platform, "OAuth 2.0 client credentials flow".

import { randomUUID } from 'node:crypto'
import type { Clock } from '../clock.ts'
import type { Answer, Exchange, Service } from './exchange.ts'
import { answerWithToken, json } from './token-answers.ts'
import { decodePayload, type Subject, type TokenIssuer } from './tokens.ts'

export interface EntraOptions {
  readonly issuer: TokenIssuer
  readonly clock: Clock
  /** The one registered application and its secret. */
  readonly application: Subject
  readonly clientSecret: string
  readonly tokenLifeSeconds: number
}

const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/** An error of the token endpoint; `code` is the number after AADSTS. */
interface EntraError {
  readonly status: number
  readonly code: number
  readonly error: string
  readonly description: string
}

export class EntraService implements Service {
  readonly #options: EntraOptions

  constructor(options: EntraOptions) {
    this.#options = options
  }

  async answer(exchange: Exchange): Promise<Answer> {
    const [, tenant = '', ...rest] = exchange.path.split('/')
    const { tenantId } = this.#options.issuer
    switch (`${exchange.method} ${rest.join('/')}`) {
      case 'GET v2.0/.well-known/openid-configuration':
        return tenant === tenantId
          ? json(200, metadata(`https://${exchange.header('host')}/${tenant}`))
          : this.#error(unknownTenant(tenant))
      case 'GET discovery/v2.0/keys':
        return json(200, await this.#options.issuer.publicKeys())
      case 'POST oauth2/v2.0/token':
        return this.#token(exchange, tenant)
      default:
        return { status: 404, headers: { 'content-length': '0' } }
    }
  }

  failure(status: number): Answer {
    const error =
      status === 429
        ? {
            code: 90055,
            error: 'temporarily_unavailable',
            description: 'There are too many incoming requests.',
          }
        : status >= 500
          ? {
              code: 90033,
              error: 'temporarily_unavailable',
              description: 'A transient error has occurred. Please try again.',
            }
          : {
              code: 9002313,
              error: 'invalid_request',
              description: 'Invalid request. Request is malformed or invalid.',
            }
    return this.#error({ status, ...error })
  }

  async #token(exchange: Exchange, tenant: string): Promise<Answer> {
    const form = new URLSearchParams((await exchange.text()) ?? '')
    const scope = form.get('scope') ?? ''
    const clientId = form.get('client_id')
    const claims = form.get('claims')
    exchange.log.asked(exchange.entry, {
      scope,
      grantType: form.get('grant_type') ?? '',
      ...(clientId === null ? {} : { clientId }),
      ...(claims === null ? {} : { claims }),
    })
    const requestedClaims = claims === null ? {} : parseClaims(claims)
    const error =
      this.#refuse(exchange, tenant, form) ?? (requestedClaims === undefined ? BAD_CLAIMS : undefined)
    if (error !== undefined) return this.#error(error)
    const { issuer, application, tokenLifeSeconds } = this.#options
    return answerWithToken(
      exchange,
      issuer,
      {
        // The audience of a v1 resource is the scope without its last part: "…net//.default" keeps one slash.
        audience: scope.slice(0, -'/.default'.length),
        subject: application,
        lifeSeconds: tokenLifeSeconds,
        ...(claims === null ? {} : { requestedClaims: requestedClaims ?? {} }),
      },
      (_claims, life) => ({ token_type: 'Bearer', expires_in: life, ext_expires_in: life }),
    )
  }

  #refuse(exchange: Exchange, tenant: string, form: URLSearchParams): EntraError | undefined {
    const { issuer, application } = this.#options
    const grantType = form.get('grant_type')
    const clientId = form.get('client_id')
    const scope = form.get('scope') ?? ''
    if (tenant !== issuer.tenantId) return unknownTenant(tenant)
    if (grantType === null) return missingParameter('grant_type')
    if (grantType !== 'client_credentials') {
      const description = `The app requested an unsupported grant type '${grantType}'.`
      return { status: 400, code: 70003, error: 'unsupported_grant_type', description }
    }
    if (clientId === null) return missingParameter('client_id')
    if (clientId !== application.clientId) {
      const description =
        `Application with identifier '${clientId}' was not found in the directory '${tenant}'. This can happen if the ` +
        'application has not been installed by the administrator of the tenant or consented to by any user in the tenant.'
      return { status: 400, code: 700016, error: 'unauthorized_client', description }
    }
    if (!/^\S+\/\.default$/.test(scope)) {
      const description =
        "The provided request must include a 'scope' input parameter. " +
        `The provided value for the input parameter 'scope' is not valid. The scope ${scope} is not valid.`
      return { status: 400, code: 70011, error: 'invalid_scope', description }
    }
    return this.#refuseCredential(exchange, form)
  }

  #refuseCredential(exchange: Exchange, form: URLSearchParams): EntraError | undefined {
    const { application, clientSecret, clock } = this.#options
    const secret = form.get('client_secret')
    const assertion = form.get('client_assertion')
    if (assertion !== null) {
      if (form.get('client_assertion_type') !== ASSERTION_TYPE)
        return missingParameter('client_assertion_type')
      const tokenEndpoint = `https://${exchange.header('host')}${exchange.path}`
      return refuseAssertion(assertion, application.clientId, tokenEndpoint, clock.now())
    }
    if (secret === null) {
      const description =
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
      return { status: 401, code: 7000218, error: 'invalid_client', description }
    }
    if (secret !== clientSecret) {
      const description =
        'Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, ' +
        `not the client secret ID, for a secret added to app '${application.clientId}'.`
      return { status: 401, code: 7000215, error: 'invalid_client', description }
    }
    return undefined
  }

  #error(error: EntraError): Answer {
    const timestamp = `${new Date(this.#options.clock.now()).toISOString().slice(0, 19).replace('T', ' ')}Z`
    const traceId = randomUUID()
    const correlationId = randomUUID()
    return json(error.status, {
      error: error.error,
      error_description:
        `AADSTS${error.code}: ${error.description} ` +
        `Trace ID: ${traceId} Correlation ID: ${correlationId} Timestamp: ${timestamp}`,
      error_codes: [error.code],
      timestamp,
      trace_id: traceId,
      correlation_id: correlationId,
      error_uri: `https://login.microsoftonline.com/error?code=${error.code}`,
    })
  }
}

/** Only the shape is looked at, not the signature: the stand-in knows no certificates and no other issuers. */
function refuseAssertion(
  assertion: string,
  clientId: string,
  tokenEndpoint: string,
  now: number,
): EntraError | undefined {
  const claims = decodePayload(assertion)
  if (claims === undefined) {
    const description = 'JWT token is invalid or malformed.'
    return { status: 401, code: 50027, error: 'invalid_client', description }
  }
  if (typeof claims['exp'] !== 'number' || claims['exp'] * 1000 <= now) {
    const description = 'Client assertion is not within its valid time range.'
    return { status: 401, code: 700024, error: 'invalid_client', description }
  }
  // A certificate's assertion is issued by the application itself, for this endpoint; a federated one by someone else.
  const ownAssertion = claims['iss'] === clientId
  const audience = ownAssertion ? tokenEndpoint : 'api://AzureADTokenExchange'
  if (![claims['aud']].flat().includes(audience)) {
    const description = `Client assertion audience claim does not match '${audience}'.`
    return { status: 401, code: 700023, error: 'invalid_client', description }
  }
  if (typeof claims['sub'] !== 'string' || (ownAssertion && claims['sub'] !== clientId)) {
    const description = "Client assertion must contain the claim 'sub'."
    return { status: 401, code: 700021, error: 'invalid_client', description }
  }
  return undefined
}

function parseClaims(text: string): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = JSON.parse(text)
    if (typeof parsed !== 'object' || parsed === null) return undefined
    return ((parsed as Record<string, unknown>)['access_token'] ?? {}) as Record<string, unknown>
  } catch {
    return undefined
  }
}

const BAD_CLAIMS: EntraError = {
  status: 400,
  code: 9002313,
  error: 'invalid_request',
  description: "Invalid request. The 'claims' parameter is not a JSON object.",
}

function unknownTenant(tenant: string): EntraError {
  const description =
    `Tenant '${tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct ` +
    'cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.'
  return { status: 400, code: 90002, error: 'invalid_request', description }
}

function missingParameter(name: string): EntraError {
  const description = `The request body must contain the following parameter: '${name}'.`
  return { status: 400, code: 900144, error: 'invalid_request', description }
}

function metadata(base: string): Record<string, unknown> {
  return {
    token_endpoint: `${base}/oauth2/v2.0/token`,
    token_endpoint_auth_methods_supported: ['client_secret_post', 'private_key_jwt'],
    jwks_uri: `${base}/discovery/v2.0/keys`,
    issuer: `${base}/v2.0`,
    authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
    device_authorization_endpoint: `${base}/oauth2/v2.0/devicecode`,
    response_types_supported: ['code'],
    subject_types_supported: ['pairwise'],
    id_token_signing_alg_values_supported: ['ES256'],
  }
}
