// A gateway in front of the stand-in, with a client secret at its Entra: the real identity library, TLS
// verified with the stand-in's own certificate authority.

import { writeFileSync } from 'node:fs'
import type { Test } from 'tap'
import type { CredentialConfig } from '../../src/config/config.ts'
import { type Standin, type StandinOptions, startStandin } from '../../src/standin/standin.ts'
import { type GatewayOverrides, openGateway, type RouteOverrides, type TestGateway } from './gateway.ts'

export interface StandinGateway extends TestGateway {
  readonly standin: Standin
}

export interface StandinGatewayOptions extends Omit<Partial<GatewayOverrides>, 'routes'> {
  readonly standin?: StandinOptions
  /** Beyond `/batch`, `/score` and `/nightly`. */
  readonly batch?: Partial<RouteOverrides>
  /** Called between the start of the stand-in and that of the gateway. */
  readonly prepare?: (standin: Standin) => void | Promise<void>
}

export async function openStandinGateway(
  t: Test,
  { standin: standinOptions, batch = {}, prepare, ...overrides }: StandinGatewayOptions = {},
): Promise<StandinGateway> {
  const standin = await startStandin(standinOptions)
  t.teardown(() => standin.close())
  await prepare?.(standin)
  const secretFile = `${t.testdir({})}/client-secret`
  writeFileSync(secretFile, standin.clientSecret)
  const credential: CredentialConfig = {
    type: 'client-secret',
    tenantId: standin.tenantId,
    clientId: standin.clientId,
    clientSecretFile: secretFile,
    authorityHost: standin.entra.url,
  }
  const { scope, audience } = standin.batch
  const ml = { scope: standin.mlOnline.scope, audience: standin.mlOnline.audience, credential }
  const gateway = await openGateway(t, {
    ...overrides,
    extraCa: [standin.caPem],
    routes: [
      { path: '/batch', upstream: standin.batch.url, preset: 'batch', scope, audience, credential, ...batch },
      { path: '/score', upstream: `${standin.mlOnline.url}/score`, preset: 'ml-online', ...ml },
      { path: '/nightly', upstream: `${standin.mlBatch.url}/jobs`, preset: 'ml-batch', ...ml },
      { path: '/ml', upstream: standin.mlOnline.url, preset: 'ml-online', ...ml },
    ],
  })
  return { ...gateway, standin }
}
