// The whole stand-in: an offline Entra, IMDS, Batch account and ML endpoints on loopback ports, made anew at each
// start. `entra-proxy demo` and the tests use the same one.

import { randomBytes, randomUUID } from 'node:crypto'
import { type Clock, systemClock } from '../clock.ts'
import { BatchService } from './batch.ts'
import { BatchAccount } from './batch-account.ts'
import { BearerCheck } from './bearer.ts'
import type { CertificateAuthority } from './certificates.ts'
import { EntraService } from './entra.ts'
import { FaultPlan, ResourceFaults } from './faults.ts'
import { APP_SERVICE_PATH, ImdsService } from './imds.ts'
import { BatchEndpoint, OnlineEndpoint } from './ml.ts'
import { RequestLog } from './request-log.ts'
import { describe, Listener, type StandinServer } from './server.ts'
import { TokenIssuer } from './tokens.ts'

export type {
  CertificateAuthority,
  CertificateKind,
  CertificateRequest,
  CertifiedKey,
} from './certificates.ts'
export type {
  BadTokenAnswer,
  Fault,
  FaultOptions,
  FaultPlan,
  OrderedFault,
  ResourceFaults,
} from './faults.ts'
export type { Counters, LoggedRequest, TokenRequest } from './request-log.ts'
export { patternBytes } from './scratch.ts'
export type { StandinServer } from './server.ts'
export type { TokenClaims } from './tokens.ts'

export type ServerName = 'entra' | 'imds' | 'batch' | 'mlOnline' | 'mlBatch'

export interface StandinOptions {
  /** Decides issue times, expiry checks and every delay; default the system clock. */
  readonly clock?: Clock
  /** Life of issued tokens; default 3599 at Entra, 86399 at IMDS. */
  readonly tokenLifeSeconds?: number
  /** Jobs in the Batch account, `job-00001`…; default 2500. */
  readonly jobs?: number
  /** Largest and default Batch page; default 1000. */
  readonly pageSize?: number
  /** A streamed /score answer: default 5 events, 50 ms apart. With `intervalMs: 0` no timer is used. */
  readonly sse?: { readonly events?: number; readonly intervalMs?: number }
  /** Address to listen on; default `localhost`, which is 127.0.0.1 and, where there is one, ::1. */
  readonly host?: string
  /** Default 0, a free port, each. */
  readonly ports?: Partial<Readonly<Record<ServerName, number>>>
  /** More DNS names for the server certificates. */
  readonly names?: readonly string[]
  /** Requests kept per server, oldest dropped first; default 1000. */
  readonly requestLogLimit?: number
}

/** A server that wants a token. */
export interface ResourceServer extends StandinServer {
  /** The `aud` it accepts. */
  readonly audience: string
  /** What to ask Entra for. */
  readonly scope: string
}

export interface ImdsServer extends StandinServer {
  /** What a request without an id gets. */
  readonly systemAssigned: ManagedIdentity
  readonly userAssigned: ManagedIdentity
  /** The App Service form: the values of IDENTITY_ENDPOINT and IDENTITY_HEADER. */
  readonly appService: { readonly endpoint: string; readonly header: string }
}

export interface ManagedIdentity {
  readonly clientId: string
  readonly objectId: string
  readonly resourceId: string
}

export interface Standin {
  /** The certificate authority of every HTTPS server here. */
  readonly caPem: string
  /** Makes more certificates from the same authority, right and wrong ones. */
  readonly certificates: CertificateAuthority
  readonly tenantId: string
  readonly clientId: string
  readonly clientSecret: string
  /** `url` is what @azure/identity calls `authorityHost`. */
  readonly entra: StandinServer
  /** `url` is the value of AZURE_POD_IDENTITY_AUTHORITY_HOST. */
  readonly imds: ImdsServer
  readonly batch: ResourceServer
  readonly mlOnline: ResourceServer
  readonly mlBatch: ResourceServer
  /** Misbehaviour on order. */
  readonly faults: {
    readonly entra: FaultPlan
    readonly imds: FaultPlan
    readonly batch: ResourceFaults
    readonly mlOnline: ResourceFaults
    readonly mlBatch: ResourceFaults
  }
  /** Back to the state after the start: no faults, log, counters, jobs added; ports, keys and issued tokens stay good. */
  reset(): Promise<void>
  /** Destroys open connections and frees the ports. */
  close(): Promise<void>
}

const AUDIENCES = {
  batch: ['https://batch.core.windows.net/'],
  // Azure's own documents ask managed identities for the resource with the slash and without.
  ml: ['https://ml.azure.com', 'https://ml.azure.com/'],
} as const
const SCOPES = {
  batch: 'https://batch.core.windows.net//.default',
  ml: 'https://ml.azure.com/.default',
} as const

/** Starts every server. Rejects when a given port is taken. */
export async function startStandin(options: StandinOptions = {}): Promise<Standin> {
  const { clock = systemClock, host = 'localhost', tokenLifeSeconds, requestLogLimit = 1000 } = options
  const { CertificateAuthority } = await import('./certificates.ts')
  const certificates = await CertificateAuthority.create(options.names)
  const serverCertificates = await certificates.issueEachKind()
  const issuer = new TokenIssuer(randomUUID(), clock)
  const application = { clientId: randomUUID(), objectId: randomUUID() }
  const clientSecret = `standin~${randomBytes(24).toString('base64url')}`
  const subscriptionId = randomUUID()
  const identities = {
    systemAssigned: managedIdentity(subscriptionId, 'Microsoft.Compute/virtualMachines/standin'),
    userAssigned: managedIdentity(subscriptionId, 'Microsoft.ManagedIdentity/userAssignedIdentities/standin'),
  }
  const appServiceHeader = randomUUID()

  const open = (name: ServerName, tls: boolean) => {
    const log = new RequestLog(clock, requestLogLimit)
    const address = tls || host !== 'localhost' ? host : '127.0.0.1'
    const port = options.ports?.[name] ?? 0
    const listener = new Listener({
      host: address,
      port,
      clock,
      log,
      ...(tls ? { certificates: serverCertificates } : {}),
    })
    return { log, listener }
  }
  const entra = open('entra', true)
  const imds = open('imds', false)
  const batch = open('batch', true)
  const mlOnline = open('mlOnline', true)
  const mlBatch = open('mlBatch', true)
  const all = [entra, imds, batch, mlOnline, mlBatch]

  const issuedSoFar = () => issuer.issued
  const faults = {
    entra: new FaultPlan(entra.listener),
    imds: new FaultPlan(imds.listener),
    batch: new ResourceFaults(batch.listener, issuedSoFar),
    mlOnline: new ResourceFaults(mlOnline.listener, issuedSoFar),
    mlBatch: new ResourceFaults(mlBatch.listener, issuedSoFar),
  }
  const authorizationUri = () => `${entra.listener.url}/${issuer.tenantId}/oauth2/v2.0/authorize`
  const bearer = (audiences: readonly string[], plan: ResourceFaults) =>
    new BearerCheck({ issuer, clock, audiences, faults: plan, authorizationUri })

  const newAccount = () => new BatchAccount(clock, options.jobs ?? 2500)
  let account = newAccount()
  const services = {
    entra: new EntraService({
      issuer,
      clock,
      application,
      clientSecret,
      tokenLifeSeconds: tokenLifeSeconds ?? 3599,
    }),
    imds: new ImdsService({
      issuer,
      identities,
      appServiceHeader,
      tokenLifeSeconds: tokenLifeSeconds ?? 86_399,
    }),
    batch: new BatchService({
      account: () => account,
      bearer: bearer(AUDIENCES.batch, faults.batch),
      clock,
      pageSize: options.pageSize ?? 1000,
    }),
    mlOnline: new OnlineEndpoint({
      bearer: bearer(AUDIENCES.ml, faults.mlOnline),
      sse: { events: options.sse?.events ?? 5, intervalMs: options.sse?.intervalMs ?? 50 },
    }),
    mlBatch: new BatchEndpoint({ bearer: bearer(AUDIENCES.ml, faults.mlBatch), subscriptionId }),
  }

  const close = async () => {
    await Promise.all(all.map(({ listener }) => listener.shut()))
  }
  const starts = await Promise.allSettled([
    entra.listener.start(services.entra, faults.entra),
    imds.listener.start(services.imds, faults.imds),
    batch.listener.start(services.batch, faults.batch),
    mlOnline.listener.start(services.mlOnline, faults.mlOnline),
    mlBatch.listener.start(services.mlBatch, faults.mlBatch),
  ])
  const failed = starts.find(start => start.status === 'rejected')
  if (failed !== undefined) {
    await close()
    throw failed.reason
  }

  const resource = (server: typeof batch, audience: string, scope: string): ResourceServer =>
    Object.assign(describe(server.listener, server.log), { audience, scope })
  return {
    caPem: certificates.caPem,
    certificates,
    tenantId: issuer.tenantId,
    clientId: application.clientId,
    clientSecret,
    entra: describe(entra.listener, entra.log),
    imds: Object.assign(describe(imds.listener, imds.log), {
      ...identities,
      appService: { endpoint: `${imds.listener.url}${APP_SERVICE_PATH}`, header: appServiceHeader },
    }),
    batch: resource(batch, AUDIENCES.batch[0], SCOPES.batch),
    mlOnline: resource(mlOnline, AUDIENCES.ml[0], SCOPES.ml),
    mlBatch: resource(mlBatch, AUDIENCES.ml[0], SCOPES.ml),
    faults,
    async reset() {
      account = newAccount()
      services.mlBatch.reset()
      for (const plan of Object.values(faults)) plan.clear()
      for (const { log } of all) log.reset()
      await Promise.all(all.map(({ listener }) => listener.restore()))
    },
    close,
  }
}

function managedIdentity(subscriptionId: string, resource: string): ManagedIdentity {
  return {
    clientId: randomUUID(),
    objectId: randomUUID(),
    resourceId: `/subscriptions/${subscriptionId}/resourceGroups/standin/providers/${resource}`,
  }
}
