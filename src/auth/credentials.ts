// Makes each credential of the configuration from the identity library. The only file that imports the library,
// and only at the first acquisition, because loading it takes longer than starting the gateway.

import { createHash } from 'node:crypto'
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls'
import type { TokenCredential } from '@azure/identity'
import type { Clock } from '../clock.ts'
import type { CredentialConfig, CredentialType } from '../config/config.ts'
import { tokenExpiry } from './access-token.ts'
import { AutoCredential, type Candidate, type CandidateType, candidateTypes } from './auto-credential.ts'
import type { AcquiredToken, AcquireOptions, Credential } from './credential.ts'
import { classifyFailure, type FailureContext, TokenFailure } from './failures.ts'
import { createIdentityHttpClient, type NetworkLog, observeNetwork } from './identity-http.ts'
import { probeImds } from './imds.ts'

export interface CredentialDeps {
  /** The identity library reads some variables from `process.env` itself: give the same ones. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** The text of a file. */
  readonly readFile: (path: string) => Promise<string>
  readonly clock: Clock
  /**
   * PEM certificates trusted besides Node's own; those of NODE_EXTRA_CA_CERTS must be among them. Give all
   * credentials the same array: what is made from it is shared by identity.
   */
  readonly ca?: readonly string[] | undefined
  /** The longest one request to a token service may take; default 5 s. */
  readonly requestTimeoutMs?: number
  /** The longest az, azd or PowerShell may take; default 15 s. */
  readonly processTimeoutMs?: number
}

const REQUEST_TIMEOUT_MS = 5_000
const PROCESS_TIMEOUT_MS = 15_000
const IMDS_PROBE_MS = 1_000
/** What a token file that does not say is taken to be good for. */
const OPAQUE_TOKEN_LIFE_MS = 300_000

/** Throws a TokenFailure for a configuration that can never work; makes no request and reads no file. */
export function createCredential(config: CredentialConfig, deps: CredentialDeps): Credential {
  if (config.type === 'auto') return createAuto(config, deps)
  return createNamed(config, config.type, deps)
}

function createNamed(
  config: CredentialConfig,
  type: Exclude<CredentialType, 'auto'>,
  deps: CredentialDeps,
): Credential {
  const acquire = ACQUIRERS[type](config, deps)
  const { label, identity } = describeIdentity(config, type, deps.env)
  return {
    key: JSON.stringify([type, ...identity, fingerprint(deps.ca)]),
    type,
    label,
    // An async function, so that whatever is thrown becomes a rejection.
    acquire: async (scope, options = {}) => acquire(scope, options),
  }
}

type Acquire = (scope: string, options: AcquireOptions) => Promise<AcquiredToken>

/** Each checks the configuration when called, and returns what makes one attempt. */
const ACQUIRERS: Readonly<
  Record<Exclude<CredentialType, 'auto'>, (config: CredentialConfig, deps: CredentialDeps) => Acquire>
> = {
  'client-secret': clientSecret,
  environment,
  'workload-identity': workloadIdentity,
  'managed-identity': managedIdentity,
  'azure-cli': signInTool('azure-cli', (library, options) => new library.AzureCliCredential(options)),
  'azure-developer-cli': signInTool(
    'azure-developer-cli',
    (library, options) => new library.AzureDeveloperCliCredential(options),
  ),
  'azure-powershell': signInTool(
    'azure-powershell',
    (library, options) => new library.AzurePowerShellCredential(options),
  ),
  static: staticToken,
}

/** What tells two credentials of a type apart, and how people call this one. */
function describeIdentity(config: CredentialConfig, type: CredentialType, env: CredentialDeps['env']) {
  const takesEnvironment = type === 'environment' || type === 'workload-identity' || type === 'client-secret'
  const clientId = config.clientId ?? (takesEnvironment ? env['AZURE_CLIENT_ID'] : undefined)
  const tenantId = config.tenantId ?? (takesEnvironment ? env['AZURE_TENANT_ID'] : undefined)
  const { objectId, clientSecretFile, tokenFile } = config
  const resourceId = resourceIdOf(config)
  const authority = config.authorityHost ?? env['AZURE_AUTHORITY_HOST']
  const name = type === 'managed-identity' ? 'managed identity' : type
  const parts = [
    resourceId === undefined && clientId !== undefined ? `client ${clientId}` : '',
    resourceId === undefined ? '' : `resource ${resourceId}`,
    objectId === undefined ? '' : `object ${objectId}`,
    tenantId === undefined ? '' : `tenant ${tenantId}`,
    tokenFile === undefined ? '' : `file ${tokenFile}`,
  ].filter(Boolean)
  if (type === 'managed-identity' && parts.length === 0) parts.push('system-assigned')
  return {
    label: [name, ...parts].join(', '),
    identity: [tenantId, clientId, resourceId, objectId, clientSecretFile, tokenFile, authority].map(
      part => part ?? '',
    ),
  }
}

// --- app credentials: a new library instance for each acquisition. It asks the network where an old one would
// answer from its cache or from a minute of throttling, and takes a rotated secret or assertion.

interface AppIdentity {
  readonly tenantId: string
  readonly clientId: string
}

function clientSecret(config: CredentialConfig, deps: CredentialDeps): Acquire {
  const authority = authorityOptions(config, deps.env)
  const identity = requireAppIdentity(config, deps.env)
  const file = config.clientSecretFile
  const fromEnv = deps.env['AZURE_CLIENT_SECRET']
  if (file === undefined && !fromEnv) {
    throw misconfigured(
      'missing_secret',
      'The credential has no client secret',
      'Set clientSecretFile, or AZURE_CLIENT_SECRET.',
    )
  }
  return async (scope, options) => {
    const secret = file === undefined ? fromEnv! : await readLine(file, 'clientSecretFile', deps)
    return acquireWithSecret(identity, secret, authority, deps, 'client-secret', scope, options)
  }
}

function environment(config: CredentialConfig, deps: CredentialDeps): Acquire {
  const authority = authorityOptions(config, deps.env)
  return async (scope, options) => {
    const { env } = deps
    const missing = ['AZURE_TENANT_ID', 'AZURE_CLIENT_ID'].filter(name => !env[name])
    if (missing.length > 0) throw notSet(missing)
    const secret = env['AZURE_CLIENT_SECRET']
    if (!secret && env['AZURE_CLIENT_CERTIFICATE_PATH']) {
      throw misconfigured(
        'certificate_unsupported',
        'AZURE_CLIENT_CERTIFICATE_PATH is set, but certificates are not supported yet',
        'Use AZURE_CLIENT_SECRET, workload identity or a managed identity.',
      )
    }
    if (!secret) throw notSet(['AZURE_CLIENT_SECRET'])
    const identity = requireAppIdentity({ type: 'environment' }, env)
    return acquireWithSecret(identity, secret, authority, deps, 'environment', scope, options)
  }
}

function acquireWithSecret(
  { tenantId, clientId }: AppIdentity,
  secret: string,
  authority: AuthorityOptions,
  deps: CredentialDeps,
  type: CredentialType,
  scope: string,
  { claims }: AcquireOptions,
): Promise<AcquiredToken> {
  return attempt({ type, scope, tenantId, clientId, secrets: [secret] }, async () => {
    const { ClientSecretCredential } = await import('@azure/identity')
    const options = { ...authority, ...(await pipelineOptions(deps)) }
    return new ClientSecretCredential(tenantId, clientId, secret, options).getToken(
      scope,
      claimsOption(claims),
    )
  })
}

function workloadIdentity(config: CredentialConfig, deps: CredentialDeps): Acquire {
  const authority = authorityOptions(config, deps.env)
  return async (scope, { claims }) => {
    const { env } = deps
    const tokenFilePath = config.tokenFile ?? env['AZURE_FEDERATED_TOKEN_FILE']
    const missing = [
      tokenFilePath ? '' : 'AZURE_FEDERATED_TOKEN_FILE',
      (config.tenantId ?? env['AZURE_TENANT_ID']) ? '' : 'AZURE_TENANT_ID',
      (config.clientId ?? env['AZURE_CLIENT_ID']) ? '' : 'AZURE_CLIENT_ID',
    ].filter(Boolean)
    if (missing.length > 0) throw notSet(missing)
    const { tenantId, clientId } = requireAppIdentity(config, env)
    // Read here only for a failure that says what is wrong with the file; the library reads it again.
    const assertion = await readLine(tokenFilePath!, 'AZURE_FEDERATED_TOKEN_FILE', deps)
    const context: FailureContext = {
      type: 'workload-identity',
      scope,
      tenantId,
      clientId,
      secrets: [assertion],
    }
    return attempt(context, async () => {
      const { WorkloadIdentityCredential } = await import('@azure/identity')
      const credential = new WorkloadIdentityCredential({
        tenantId,
        clientId,
        tokenFilePath: tokenFilePath!,
        ...authority,
        ...(await pipelineOptions(deps)),
      })
      return credential.getToken(scope, claimsOption(claims))
    })
  }
}

function requireAppIdentity(config: CredentialConfig, env: CredentialDeps['env']): AppIdentity {
  const tenantId = config.tenantId ?? env['AZURE_TENANT_ID']
  const clientId = config.clientId ?? env['AZURE_CLIENT_ID']
  if (!tenantId || !clientId) {
    const missing = [tenantId ? '' : 'tenantId', clientId ? '' : 'clientId'].filter(Boolean).join(' and ')
    throw misconfigured(
      'missing_identity',
      `The credential ${config.type} has no ${missing}`,
      'Set it in credential:, or as AZURE_TENANT_ID and AZURE_CLIENT_ID.',
    )
  }
  checkTenant(tenantId)
  if (/^(common|organizations|consumers)$/i.test(tenantId)) {
    throw misconfigured(
      'tenant_not_single',
      `The tenant ${tenantId} is for signing in people; an application needs its own tenant`,
      'Set tenantId to the "Directory (tenant) ID" of the app registration.',
    )
  }
  return { tenantId, clientId }
}

function checkTenant(tenantId: string): void {
  if (/^[0-9A-Za-z.-]+$/.test(tenantId)) return
  throw misconfigured(
    'tenant_malformed',
    'tenantId holds characters that no tenant id has',
    'Set it to the "Directory (tenant) ID", a GUID, or to a domain name of the tenant.',
  )
}

// --- long-lived credentials: one library instance each

function managedIdentity(config: CredentialConfig, deps: CredentialDeps): Acquire {
  const { env } = deps
  const resourceId = resourceIdOf(config)
  const clientId = resourceId === undefined || config.resourceId !== undefined ? config.clientId : undefined
  const ids = Object.entries({ clientId, resourceId, objectId: config.objectId }).filter(([, value]) => value)
  if (ids.length > 1) {
    throw misconfigured(
      'too_many_ids',
      `A managed identity has one id, but ${ids.map(([name]) => name).join(' and ')} are set`,
      'Keep one of clientId, resourceId and objectId.',
    )
  }
  if (usesFederatedToken(clientId, env)) {
    // Here the library would exchange the pod's token, by a path of its own without any bound in time.
    if (ids.some(([name]) => name !== 'clientId')) {
      throw misconfigured(
        'federated_takes_client_id',
        'In a pod with workload identity a managed identity is found by its client id alone',
        'Set clientId instead of resourceId or objectId, or take the pod out of workload identity.',
      )
    }
    return workloadIdentity({ type: 'workload-identity', ...(clientId ? { clientId } : {}) }, deps)
  }
  const instance = once(async () => {
    const { ManagedIdentityCredential } = await import('@azure/identity')
    const options = await pipelineOptions(deps)
    return new ManagedIdentityCredential({ ...Object.fromEntries(ids), ...options })
  })
  return (scope, _options) =>
    attempt(
      { type: 'managed-identity', scope, clientId, secrets: identityEndpointSecrets(env) },
      async () => {
        const credential = await instance()
        const answer = await credential.getToken(scope)
        // Once its refresh time has come, the library gives the old token a last time and the new one after that.
        const isOld = (answer.refreshAfterTimestamp ?? Number.POSITIVE_INFINITY) <= deps.clock.now()
        return isOld ? credential.getToken(scope) : answer
      },
    )
}

/** Azure samples in other languages pass a resource id where a client id is meant. */
function resourceIdOf({ clientId, resourceId }: CredentialConfig): string | undefined {
  return resourceId ?? (clientId?.toLowerCase().startsWith('/subscriptions/') ? clientId : undefined)
}

function usesFederatedToken(clientId: string | undefined, env: CredentialDeps['env']): boolean {
  return Boolean(
    (clientId || env['AZURE_CLIENT_ID']) && env['AZURE_TENANT_ID'] && env['AZURE_FEDERATED_TOKEN_FILE'],
  )
}

function identityEndpointSecrets(env: CredentialDeps['env']): string[] {
  return [env['IDENTITY_HEADER'], env['MSI_SECRET']].filter(secret => secret !== undefined)
}

type Library = typeof import('@azure/identity')

interface ToolOptions {
  readonly processTimeoutInMs: number
  readonly tenantId?: string
}

function signInTool(type: CredentialType, make: (library: Library, options: ToolOptions) => TokenCredential) {
  return (config: CredentialConfig, deps: CredentialDeps): Acquire => {
    const { tenantId } = config
    if (tenantId !== undefined) checkTenant(tenantId)
    const processTimeoutInMs = deps.processTimeoutMs ?? PROCESS_TIMEOUT_MS
    const instance = once(async () =>
      make(await import('@azure/identity'), {
        processTimeoutInMs,
        ...(tenantId === undefined ? {} : { tenantId }),
      }),
    )
    return async (scope, { claims }) => {
      const credential = await instance()
      const startedAt = deps.clock.monotonic()
      try {
        return await attempt({ type, scope, tenantId }, () =>
          credential.getToken(scope, claimsOption(claims)),
        )
      } catch (error) {
        // The library reports a process it has killed as one with bad output.
        const isTimeout = deps.clock.monotonic() - startedAt >= processTimeoutInMs
        throw isTimeout
          ? classifyFailure(undefined, { type, scope, timedOutAfterMs: processTimeoutInMs })
          : error
      }
    }
  }
}

function staticToken(config: CredentialConfig, deps: CredentialDeps): Acquire {
  const { tokenFile } = config
  if (tokenFile === undefined) {
    throw misconfigured(
      'missing_file',
      'The credential static has no tokenFile',
      'Set tokenFile to the file that holds the token.',
    )
  }
  return async () => {
    const token = await readLine(tokenFile, 'tokenFile', deps)
    return { token, expiresAt: tokenExpiry(token) ?? deps.clock.now() + OPAQUE_TOKEN_LIFE_MS }
  }
}

/** Makes a changed CA file a different credential, so that a reload takes it. */
function fingerprint(ca: readonly string[] = []): string {
  return ca.length === 0 ? '' : createHash('sha256').update(ca.join('\n')).digest('hex').slice(0, 16)
}

// --- auto

function createAuto(config: CredentialConfig, deps: CredentialDeps): Credential {
  const { env } = deps
  const setting = env['AZURE_TOKEN_CREDENTIALS']
  const candidates = candidateTypes(setting).map(type => autoCandidate(type, config, deps))
  return new AutoCredential({
    key: JSON.stringify(['auto', setting ?? '', ...candidates.map(({ credential }) => credential.key)]),
    candidates,
    clock: deps.clock,
    candidateTimeoutMs: deps.processTimeoutMs ?? PROCESS_TIMEOUT_MS,
  })
}

function autoCandidate(type: CandidateType, config: CredentialConfig, deps: CredentialDeps): Candidate {
  const { env } = deps
  const { tenantId, authorityHost } = config
  const tenant = { ...(tenantId ? { tenantId } : {}), ...(authorityHost ? { authorityHost } : {}) }
  if (type !== 'managed-identity') {
    const clientId = type === 'workload-identity' && config.clientId ? { clientId: config.clientId } : {}
    return { credential: createNamed({ type, ...tenant, ...clientId }, type, deps) }
  }
  // Like the library's chain, a client id in the environment names the managed identity, too.
  const { resourceId, objectId } = config
  const clientId = config.clientId ?? (resourceId || objectId ? undefined : env['AZURE_CLIENT_ID'])
  const identity = {
    ...(clientId ? { clientId } : {}),
    ...(resourceId ? { resourceId } : {}),
    ...(objectId ? { objectId } : {}),
  }
  if (usesFederatedToken(clientId, env)) {
    const named = createNamed({ type, ...(clientId ? { clientId } : {}) }, type, deps)
    return {
      credential: named,
      precheck: async () => 'In a pod with workload identity it is the same as workload-identity',
    }
  }
  return {
    credential: createNamed({ type, ...identity }, type, deps),
    precheck: async () => {
      if (env['IDENTITY_ENDPOINT'] || env['MSI_ENDPOINT']) return undefined
      const exists = await probeImds(env['AZURE_POD_IDENTITY_AUTHORITY_HOST'], IMDS_PROBE_MS)
      return exists ? undefined : `No managed identity endpoint answered within ${IMDS_PROBE_MS / 1000} s`
    },
  }
}

// --- shared

/** One call of the library, with what happened on the network told in its failure. */
async function attempt(
  context: FailureContext,
  getToken: () => Promise<Awaited<ReturnType<TokenCredential['getToken']>>>,
): Promise<AcquiredToken> {
  const log: NetworkLog = {}
  try {
    const answer = await observeNetwork(log, getToken)
    return {
      token: answer?.token ?? '',
      ...(answer === null ? {} : { expiresAt: answer.expiresOnTimestamp }),
      ...(answer?.refreshAfterTimestamp === undefined ? {} : { refreshAfter: answer.refreshAfterTimestamp }),
    }
  } catch (error) {
    throw classifyFailure(error, { ...context, fact: log.last })
  }
}

function claimsOption(claims: string | undefined): { claims?: string } {
  return claims === undefined ? {} : { claims }
}

async function pipelineOptions({ requestTimeoutMs = REQUEST_TIMEOUT_MS, clock, ca }: CredentialDeps) {
  const secureContext = ca === undefined || ca.length === 0 ? undefined : trust(ca)
  return {
    httpClient: await createIdentityHttpClient({ timeoutMs: requestTimeoutMs, clock, secureContext }),
    // The token cache has a back-off of its own; the library's would wait out a Retry-After of any length.
    retryOptions: { maxRetries: 0 },
  }
}

/** Made once per list: parsing the default authorities holds up everything else for about 40 ms. */
const secureContexts = new WeakMap<readonly string[], SecureContext>()

function trust(ca: readonly string[]): SecureContext {
  const known = secureContexts.get(ca)
  if (known !== undefined) return known
  const context = createSecureContext({ ca: [...rootCertificates, ...ca] })
  secureContexts.set(ca, context)
  return context
}

interface AuthorityOptions {
  readonly authorityHost?: string
  readonly disableInstanceDiscovery?: boolean
}

/** Authorities whose metadata the library has built in. */
const KNOWN_AUTHORITIES: ReadonlySet<string> = new Set([
  'login.microsoftonline.com',
  'login.windows.net',
  'login.microsoft.com',
  'sts.windows.net',
  'login.microsoftonline.us',
  'login.chinacloudapi.cn',
  'login.partner.microsoftonline.cn',
])

function authorityOptions(config: CredentialConfig, env: CredentialDeps['env']): AuthorityOptions {
  const authorityHost = config.authorityHost || env['AZURE_AUTHORITY_HOST']
  if (!authorityHost) return {}
  const url = URL.canParse(authorityHost) ? new URL(authorityHost) : undefined
  if (url?.protocol !== 'https:') {
    throw misconfigured(
      'authority_not_https',
      `${config.authorityHost ? 'authorityHost' : 'AZURE_AUTHORITY_HOST'} is not an https:// address`,
      'Write it in full, such as https://login.microsoftonline.us.',
    )
  }
  // Any other host is unknown to the public directory of clouds, so asking there can only fail.
  const isKnown = KNOWN_AUTHORITIES.has(url.hostname)
  return { authorityHost, ...(isKnown ? {} : { disableInstanceDiscovery: true }) }
}

/** A file of one line, without the line's end. */
async function readLine(path: string, what: string, { readFile }: CredentialDeps): Promise<string> {
  let text: string
  try {
    text = await readFile(path)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    throw misconfigured(
      'file_unreadable',
      `The file of ${what}, ${path}, cannot be read (${code})`,
      'Check that it exists and that the gateway may read it. It is read again at each attempt.',
    )
  }
  const line = text.replace(/[\r\n]+$/, '')
  if (line === '') {
    throw misconfigured(
      'file_empty',
      `The file of ${what}, ${path}, is empty`,
      'Fill it. It is read again at each attempt.',
    )
  }
  return line
}

function once<Value>(make: () => Promise<Value>): () => Promise<Value> {
  let value: Promise<Value> | undefined
  return () => {
    value ??= make().catch((error: unknown) => {
      value = undefined
      throw error
    })
    return value
  }
}

function notSet(names: readonly string[]): TokenFailure {
  const list = names.join(', ')
  return new TokenFailure({
    kind: 'unavailable',
    code: 'not_configured',
    detail: `${list} ${names.length === 1 ? 'is' : 'are'} not set`,
    remedy: `Set ${list}, or choose another credential.`,
  })
}

function misconfigured(code: string, detail: string, remedy: string): TokenFailure {
  return new TokenFailure({ kind: 'configuration', code, detail, remedy })
}
