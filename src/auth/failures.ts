// Why there is no token, in our own words: sorts what the identity library threw, plus what was seen on the
// network, into five kinds with a remedy. The library's text never goes into a message: it can hold an
// answer's body, and that can echo a secret.

import type { CredentialType } from '../config/config.ts'

/**
 * configuration: the operator must change something. interaction: a person must sign in. transient: asking
 * again may help. tls: the other side's certificate was not accepted. unavailable: this credential does not
 * exist here. All kinds are retried; the kind is for people and for `auto`.
 */
export type FailureKind = 'configuration' | 'interaction' | 'transient' | 'tls' | 'unavailable'

export interface TokenFailureOptions {
  readonly kind: FailureKind
  /** A short stable word: an OAuth error, a socket error code, or one of ours such as `not_signed_in`. */
  readonly code: string
  /** What happened, one sentence, without the library's text. */
  readonly detail: string
  /** What to do next, one or two sentences. */
  readonly remedy: string
  readonly aadsts?: number | undefined
  readonly retryAfterMs?: number | undefined
  /** Entra's correlation id, which its support asks for. */
  readonly correlationId?: string | undefined
  /** The library's text after `redact`. */
  readonly debug?: string | undefined
}

export class TokenFailure extends Error {
  readonly kind: FailureKind
  readonly code: string
  readonly remedy: string
  readonly aadsts?: number
  readonly retryAfterMs?: number
  readonly correlationId?: string
  readonly #debug: string

  constructor(options: TokenFailureOptions) {
    super(options.detail)
    this.name = 'TokenFailure'
    this.kind = options.kind
    this.code = options.code
    this.remedy = options.remedy
    if (options.aadsts !== undefined) this.aadsts = options.aadsts
    if (options.retryAfterMs !== undefined) this.retryAfterMs = options.retryAfterMs
    if (options.correlationId !== undefined) this.correlationId = options.correlationId
    this.#debug = options.debug ?? ''
  }

  /** For the debug log only, and a method so that no serialiser prints it by itself. */
  debugText(): string {
    return this.#debug
  }
}

/** What the last answer, or the lack of one, looked like on the network. The library keeps too little of it. */
export interface NetworkFact {
  readonly host: string
  readonly status?: number
  /** A socket or TLS error code of Node, or `TIMEOUT`. */
  readonly code?: string
  readonly retryAfterMs?: number
  /** The `error` member of the answer, such as `invalid_client`. */
  readonly error?: string
  readonly aadsts?: number
  readonly correlationId?: string
}

export interface FailureContext {
  readonly type: CredentialType
  readonly scope?: string
  readonly tenantId?: string | undefined
  readonly clientId?: string | undefined
  readonly fact?: NetworkFact | undefined
  /** Nothing came within this time. */
  readonly timedOutAfterMs?: number | undefined
  readonly secrets?: readonly string[]
}

type Explanation = Pick<TokenFailureOptions, 'kind' | 'code' | 'detail' | 'remedy'>

/** Turns anything a credential threw into a TokenFailure. Works without `cause`, which 4.13 does not set. */
export function classifyFailure(error: unknown, context: FailureContext): TokenFailure {
  if (error instanceof TokenFailure) return error
  const text = errorText(error)
  const aadsts = context.fact?.aadsts ?? findAadsts(text)
  const status = context.fact?.status
  const explanation =
    explainEntraCode(aadsts, context) ??
    explainTimeout(context) ??
    explainProcess(text, context) ??
    explainNetwork(context) ??
    explainAnswer(text, context)
  const numbers = [
    aadsts === undefined ? '' : `AADSTS${aadsts}`,
    status === undefined ? '' : `HTTP ${status}`,
  ]
  const suffix = numbers.filter(Boolean).join(', ')
  return new TokenFailure({
    ...explanation,
    detail: suffix === '' ? explanation.detail : `${explanation.detail} (${suffix})`,
    aadsts,
    retryAfterMs: context.fact?.retryAfterMs,
    correlationId: context.fact?.correlationId,
    debug: redact(text, context.secrets).slice(0, 4000),
  })
}

/** The messages of an error, its causes and the members of an aggregate. */
function errorText(error: unknown): string {
  const messages: string[] = []
  const pending: unknown[] = [error]
  while (pending.length > 0 && messages.length < 10) {
    const item = pending.shift()
    if (!(item instanceof Error)) {
      if (typeof item === 'string') messages.push(item)
      continue
    }
    messages.push(item.message)
    pending.push(item.cause)
    if (item instanceof AggregateError) pending.push(...item.errors)
  }
  return messages.join('\n')
}

export function findAadsts(text: string): number | undefined {
  const match = /AADSTS(\d{4,8})/.exec(text)
  return match === null ? undefined : Number(match[1])
}

/** How a person signs in again, by credential. */
function signIn({ type, scope, tenantId }: FailureContext): string {
  const tenant = tenantId ?? '<tenant id>'
  if (type === 'azure-developer-cli') return 'Run: azd auth login'
  if (type === 'azure-powershell') return 'Run in PowerShell: Connect-AzAccount'
  if (type === 'azure-cli') return `Run: az login --tenant ${tenant} --scope ${scope ?? '<scope>'}`
  return 'A person cannot sign in through this credential: use azure-cli on a workstation, or have an administrator change the policy.'
}

interface EntraCode {
  readonly kind: FailureKind
  readonly detail: string
  readonly remedy: string | ((context: FailureContext) => string)
}

// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
const ENTRA_CODES: Readonly<Record<number, EntraCode>> = {
  16000: { kind: 'interaction', detail: 'Entra needs to know which account to use', remedy: signIn },
  50057: {
    kind: 'configuration',
    detail: 'The account is disabled',
    remedy: 'Ask a tenant administrator to enable the account, or sign in with another one.',
  },
  50058: { kind: 'interaction', detail: 'Nobody is signed in', remedy: signIn },
  50076: { kind: 'interaction', detail: 'Entra wants multi-factor authentication', remedy: signIn },
  50078: { kind: 'interaction', detail: 'The multi-factor authentication has expired', remedy: signIn },
  50079: {
    kind: 'interaction',
    detail: 'The account must enrol in multi-factor authentication',
    remedy: signIn,
  },
  50105: {
    kind: 'configuration',
    detail: 'The identity is not assigned to the application that the scope belongs to',
    remedy: 'Assign it under Enterprise applications, Users and groups, of that application.',
  },
  50173: { kind: 'interaction', detail: 'The sign-in was revoked or the password changed', remedy: signIn },
  53000: conditionalAccess('a device that meets the compliance policy'),
  53001: conditionalAccess('a domain-joined device'),
  53003: conditionalAccess('another network, device or identity'),
  530003: conditionalAccess('a managed device'),
  65001: {
    kind: 'interaction',
    detail: 'Nobody consented that this application may use the API behind the scope',
    remedy: context => `${signIn(context)} — or have an administrator grant consent for the tenant.`,
  },
  70008: { kind: 'interaction', detail: 'The sign-in has expired', remedy: signIn },
  70011: {
    kind: 'configuration',
    detail: 'Entra does not know the scope',
    remedy: ({ scope }) =>
      `Check the route's scope ${scope ?? ''}: it must be the resource followed by /.default (Batch: https://batch.core.windows.net//.default, two slashes).`,
  },
  70021: federation('no federated identity credential matches the token file'),
  70043: {
    kind: 'interaction',
    detail: 'The sign-in is too old for the sign-in frequency policy',
    remedy: signIn,
  },
  90002: {
    kind: 'configuration',
    detail: 'Entra does not know the tenant',
    remedy: ({ tenantId }) =>
      `Check tenantId${tenantId === undefined ? '' : ` ${tenantId}`}, and authorityHost if the tenant is in a sovereign cloud.`,
  },
  90033: {
    kind: 'transient',
    detail: 'Entra is temporarily unavailable',
    remedy: 'Nothing to do: it is asked again by itself. If it lasts, see https://azure.status.microsoft.',
  },
  500011: {
    kind: 'configuration',
    detail: 'The resource named by the scope does not exist in the tenant',
    remedy: ({ scope, tenantId }) =>
      `Check the route's scope ${scope ?? ''} letter by letter (slashes count), and that tenantId${tenantId === undefined ? '' : ` ${tenantId}`} is the tenant that holds the resource.`,
  },
  501051: {
    kind: 'configuration',
    detail: 'The identity has no role in the application that the scope belongs to',
    remedy: 'Assign it an app role of that application, or ask its owner to.',
  },
  700016: {
    kind: 'configuration',
    detail: 'Entra does not find the application in this tenant',
    remedy: ({ clientId, tenantId }) =>
      `Check clientId${clientId === undefined ? '' : ` ${clientId}`} and tenantId${tenantId === undefined ? '' : ` ${tenantId}`}: the client id is the "Application (client) ID", not the object id.`,
  },
  700021: federation('its subject or issuer is not the expected one'),
  700023: federation('its audience is not the expected one'),
  700024: {
    kind: 'configuration',
    detail: 'The assertion is not valid at this time',
    remedy:
      'Set the clock of this machine (NTP); with workload identity check that the token file is renewed.',
  },
  700027: {
    kind: 'configuration',
    detail: 'Entra does not accept the signature of the assertion',
    remedy: 'Upload the certificate to the app registration, or use the one that is there.',
  },
  700082: { kind: 'interaction', detail: 'The sign-in has expired from not being used', remedy: signIn },
  700084: {
    kind: 'interaction',
    detail: 'The sign-in of the single-page application has expired',
    remedy: signIn,
  },
  700211: federation('the issuer of the token file is not the one of a federated identity credential'),
  700212: federation('the audience of the token file is not the one of a federated identity credential'),
  700213: federation('the subject of the token file is not the one of a federated identity credential'),
  900023: {
    kind: 'configuration',
    detail: 'The tenant id is neither a GUID nor a domain name of a tenant',
    remedy: 'Set tenantId to the "Directory (tenant) ID" shown in the Entra admin centre.',
  },
  1002016: {
    kind: 'configuration',
    detail: 'The connection to Entra uses a TLS version that it no longer accepts',
    remedy: 'Let the proxy in between speak TLS 1.2 or newer.',
  },
  7000112: {
    kind: 'configuration',
    detail: 'The application is disabled',
    remedy: 'Have its owner enable it under Enterprise applications, Properties.',
  },
  7000215: {
    kind: 'configuration',
    detail: 'Entra does not accept the client secret',
    remedy:
      "Put the secret's value, not its id, into clientSecretFile (or AZURE_CLIENT_SECRET). The file is read again at each attempt.",
  },
  7000222: {
    kind: 'configuration',
    detail: 'The client secret has expired',
    remedy:
      'Make a new secret under App registrations, Certificates & secrets, and write it to clientSecretFile (or AZURE_CLIENT_SECRET). The file is read again at each attempt.',
  },
  7000229: {
    kind: 'configuration',
    detail: 'The application has no service principal in this tenant',
    remedy: ({ clientId }) => `Run: az ad sp create --id ${clientId ?? '<client id>'}`,
  },
}

function conditionalAccess(fromWhere: string): EntraCode {
  return {
    kind: 'configuration',
    detail: 'A Conditional Access policy blocks the sign-in',
    remedy: `Sign in from ${fromWhere}, or ask the tenant administrator to look at the sign-in log for the policy.`,
  }
}

function federation(reason: string): EntraCode {
  return {
    kind: 'configuration',
    detail: `Entra does not accept the federated token: ${reason}`,
    remedy:
      "Compare issuer, subject (system:serviceaccount:<namespace>:<name>) and audience (api://AzureADTokenExchange) of the app's federated credential with the token in AZURE_FEDERATED_TOKEN_FILE.",
  }
}

function explainEntraCode(aadsts: number | undefined, context: FailureContext): Explanation | undefined {
  const known = aadsts === undefined ? undefined : ENTRA_CODES[aadsts]
  if (known === undefined) return undefined
  const remedy = typeof known.remedy === 'string' ? known.remedy : known.remedy(context)
  return { kind: known.kind, code: context.fact?.error ?? `AADSTS${aadsts}`, detail: known.detail, remedy }
}

interface SignInTool {
  readonly name: string
  readonly command: string
  readonly install: string
}

const TOOLS: Readonly<Partial<Record<CredentialType, SignInTool>>> = {
  'azure-cli': {
    name: 'the Azure CLI',
    command: 'az account get-access-token',
    install: 'Install it (https://aka.ms/azure-cli) and run: az login',
  },
  'azure-developer-cli': {
    name: 'the Azure Developer CLI',
    command: 'azd auth token',
    install: 'Install it (https://aka.ms/azd) and run: azd auth login',
  },
  'azure-powershell': {
    name: 'Azure PowerShell',
    command: 'Get-AzAccessToken',
    install: 'Install PowerShell 7 and the module Az.Accounts, then run: Connect-AzAccount',
  },
}

// The process credentials leave nothing but the library's sentence or the tool's stderr to tell cases apart.
const NOT_INSTALLED =
  /(could not|couldn't) be found|is not recognized|is not installed|Unable to execute PowerShell|was not loaded because/i
const NOT_SIGNED_IN =
  /az login|azd (auth )?login|Connect-AzAccount|not logged in|reauthentication required|multi-factor|interaction_required/i

function explainTimeout({ type, timedOutAfterMs }: FailureContext): Explanation | undefined {
  if (timedOutAfterMs === undefined) return undefined
  const tool = TOOLS[type]
  return {
    kind: 'transient',
    code: 'TIMEOUT',
    detail: `${capitalized(tool?.name ?? 'the credential')} gave no token within ${timedOutAfterMs / 1000} s`,
    remedy:
      tool === undefined
        ? 'Check the network between this machine and the token service, or raise token.timeout.'
        : `Run it by hand to see what it waits for: ${tool.command}`,
  }
}

function explainProcess(text: string, context: FailureContext): Explanation | undefined {
  const tool = TOOLS[context.type]
  if (tool === undefined) return undefined
  const name = capitalized(tool.name)
  // Both sentences can name the sign-in command, so the missing program is looked for first.
  if (NOT_INSTALLED.test(text)) {
    return {
      kind: 'unavailable',
      code: 'not_installed',
      detail: `${name} is not on the PATH`,
      remedy: `${tool.install}.`,
    }
  }
  if (NOT_SIGNED_IN.test(text)) {
    return {
      kind: 'interaction',
      code: 'not_signed_in',
      detail: `${name} is not signed in`,
      remedy: signIn(context),
    }
  }
  return {
    kind: 'transient',
    code: 'tool_failed',
    detail: `${name} gave no token that can be read`,
    remedy: `Run it by hand to see its message: ${tool.command}`,
  }
}

const TLS_CODE = /CERT|SELF_SIGNED|ISSUER|ALTNAME|UNABLE_TO_VERIFY|ERR_TLS|ERR_SSL|EPROTO/

function explainNetwork({ type, fact }: FailureContext): Explanation | undefined {
  if (fact?.code === undefined) return undefined
  const { host, code } = fact
  if (TLS_CODE.test(code)) {
    return {
      kind: 'tls',
      code,
      detail: `The TLS certificate of ${host} was not accepted (${code})`,
      remedy:
        'If a company proxy or a private CA signs for that host, name its PEM file in outbound.caFile or NODE_EXTRA_CA_CERTS; otherwise check authorityHost.',
    }
  }
  if (type === 'managed-identity') {
    return {
      kind: 'unavailable',
      code,
      detail: `No managed identity endpoint answers at ${host} (${code})`,
      remedy:
        'Managed identities exist only on Azure compute: run the gateway there and assign an identity, or choose another credential.',
    }
  }
  return {
    kind: 'transient',
    code,
    detail: `${host} ${NETWORK_CODES[code] ?? 'could not be reached'} (${code})`,
    remedy: `Check the network, DNS and HTTPS_PROXY between this machine and ${host}.`,
  }
}

const NETWORK_CODES: Readonly<Record<string, string>> = {
  TIMEOUT: 'did not answer in time',
  ENOTFOUND: 'has no address in DNS',
  EAI_AGAIN: 'could not be looked up in DNS',
  ECONNREFUSED: 'refused the connection',
  ECONNRESET: 'closed the connection',
}

function explainAnswer(text: string, context: FailureContext): Explanation {
  const { type, fact } = context
  const status = fact?.status
  const code = fact?.error ?? (status === undefined ? 'unknown' : `http_${status}`)
  const host = fact?.host ?? 'The token service'
  if (status === 429) {
    return {
      kind: 'transient',
      code,
      detail: `${host} asks to slow down`,
      remedy:
        'Nothing to do: it is asked again when it said. If it lasts, look for other programs that ask often.',
    }
  }
  if (status === 407) {
    return {
      kind: 'configuration',
      code,
      detail: 'The proxy wants a user name and password',
      remedy: 'Put them into HTTPS_PROXY, as http://user:password@proxy:port.',
    }
  }
  if (type === 'managed-identity' && (status === 400 || status === 401 || status === 403)) {
    return {
      kind: 'configuration',
      code,
      detail: 'The managed identity endpoint has no such identity for this machine',
      remedy:
        'Assign the identity to this VM, app or pod, and check clientId, resourceId or objectId; without one the system-assigned identity must be on.',
    }
  }
  if (status !== undefined && (status >= 500 || status === 408 || status === 404 || status === 410)) {
    return {
      kind: 'transient',
      code,
      detail: `${host} answered with an error`,
      remedy: `Nothing to do: it is asked again by itself. If it lasts, check that ${host} is the right token service.`,
    }
  }
  if (status !== undefined && status >= 400) {
    return {
      kind: INTERACTION.test(code) ? 'interaction' : 'configuration',
      code,
      detail: `${host} refused the token request`,
      remedy: INTERACTION.test(code)
        ? signIn(context)
        : 'Check tenantId, clientId, the secret or federation, and the scope of the route.',
    }
  }
  if (UNREADABLE.test(text) || status !== undefined) {
    return {
      kind: 'transient',
      code: 'unreadable_answer',
      detail: `${host} gave an answer that holds no token`,
      remedy: 'Check authorityHost and HTTPS_PROXY: something that is not Entra may have answered.',
    }
  }
  return {
    kind: 'transient',
    code,
    detail: 'The credential failed for a reason it does not give',
    remedy: "It is asked again by itself. Log at level debug to see the library's own words.",
  }
}

const INTERACTION = /^(interaction_required|consent_required|login_required)$/
const UNREADABLE = /JSON|endpoints_resolution_error|openid_config_error|Unexpected token/

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

const JWT = /eyJ[\w-]{5,}(\.[\w-]*){0,4}/g
const SECRET_FIELD =
  /((?:client_secret|client_assertion|refresh_token|device_code|access_token|accessToken|id_token|assertion|password|code)["']?\s*[=:]\s*["']?)[^&\s"',}]+/gi

/** `text` without the given secrets (plain, URL-, JSON- or base64-encoded), JWTs and the values of secret fields. */
export function redact(text: string, secrets: readonly string[] = []): string {
  let clean = text
  for (const secret of secrets) {
    // Two or three characters are no secret, and taking them out would garble the text.
    if (secret.length < 4) continue
    for (const form of encodedForms(secret)) clean = clean.replaceAll(form, '[redacted]')
  }
  return clean.replace(JWT, '[jwt]').replace(SECRET_FIELD, '$1[redacted]')
}

function encodedForms(secret: string): Set<string> {
  const bytes = Buffer.from(secret)
  return new Set([
    secret,
    encodeURIComponent(secret),
    new URLSearchParams({ s: secret }).toString().slice(2),
    JSON.stringify(secret).slice(1, -1),
    bytes.toString('base64'),
    bytes.toString('base64url'),
  ])
}
