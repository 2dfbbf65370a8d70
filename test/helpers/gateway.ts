// A whole gateway on free ports, for one test, closed after it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { parseUpstream } from '../../src/config/address.ts'
import type { Config, RouteConfig } from '../../src/config/config.ts'
import { type Gateway, startGateway } from '../../src/gateway.ts'
import { createAccessWriter, createLogger } from '../../src/logger.ts'

/** A secret that must never be seen anywhere but at the upstream. */
export const CANARY_TOKEN = 'canary-token-5e1f0c7d9b2a4f38'

export type RouteOverrides = Omit<Partial<RouteConfig>, 'upstream'> & { readonly upstream: string }

export interface GatewayOverrides extends Partial<Omit<Config, 'routes'>> {
  readonly routes: readonly RouteOverrides[]
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly extraCa?: readonly string[]
  /** Default true: the first token attempt of each route has ended when the gateway is handed out. */
  readonly awaitFirstTokens?: boolean
}

export interface TestGateway {
  readonly gateway: Gateway
  readonly port: number
  readonly url: string
  /** Everything logged so far, one JSON object per line. */
  readonly logs: string[]
  /** The next access line that `accepts`. */
  accessLine(accepts?: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>
}

const LISTEN = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const

export function testRoute(overrides: RouteOverrides, tokenFile: string): RouteConfig {
  const { upstream, ...rest } = overrides
  const parsed = parseUpstream(upstream)
  if (!('value' in parsed)) throw new Error(parsed.problem)
  const path = rest.path ?? '/'
  return {
    name: path === '/' ? 'default' : path.slice(1).replaceAll('/', '-'),
    path,
    upstream: parsed.value,
    preset: 'custom',
    scope: 'api://test/.default',
    credential: { type: 'static', tokenFile },
    query: {},
    requestHeaders: { set: {}, remove: [] },
    responseHeaders: { set: {}, remove: [] },
    rewriteLinks: 'headers+json',
    trustUpstream: false,
    timeouts: { connectMs: 60_000, responseMs: 60_000, idleMs: 60_000 },
    limits: { maxConcurrent: 256, maxQueue: 256, queueTimeoutMs: 10_000, maxBodyBytes: 10 * 2 ** 30 },
    ...rest,
  }
}

/** Opens a gateway whose routes use a static canary token unless they name a credential. */
export async function openGateway(t: Test, overrides: GatewayOverrides): Promise<TestGateway> {
  const { routes, env = {}, extraCa, awaitFirstTokens = true, ...rest } = overrides
  const folder = mkdtempSync(join(tmpdir(), 'entra-proxy-test-'))
  const tokenFile = join(folder, 'token')
  writeFileSync(tokenFile, CANARY_TOKEN)
  const config: Config = {
    listen: [LISTEN],
    routes: routes.map(route => testRoute(route, tokenFile)),
    token: { refreshBeforeMs: 600_000, timeoutMs: 15_000 },
    outbound: {},
    security: { allowedHosts: [], allowedOrigins: [], forwardedRequests: 'reject', allowRemote: false },
    admin: { metrics: true },
    log: { level: 'trace', format: 'json', access: 'all' },
    shutdown: { graceMs: 5_000 },
    ...rest,
  }
  const logs: string[] = []
  const listeners = new Set<() => void>()
  const options = {
    level: config.log.level,
    pretty: false,
    color: false,
    destination: {
      write: (line: string) => {
        logs.push(line)
        for (const each of [...listeners]) each()
      },
    },
  }
  const gateway = await startGateway({
    config,
    env,
    clock: systemClock,
    log: createLogger(options),
    access: createAccessWriter({ ...options, access: config.log.access }),
    version: '0.0.0-test',
    nodeVersion: process.versions.node,
    ...(extraCa && { extraCa }),
  })
  t.teardown(async () => {
    await gateway.close()
    rmSync(folder, { recursive: true, force: true })
  })
  if (awaitFirstTokens) await gateway.firstTokens
  return {
    gateway,
    port: gateway.listeners[0]!.facts.port,
    url: `http://localhost:${gateway.listeners[0]!.facts.port}`,
    logs,
    accessLine(accepts = () => true) {
      return new Promise(resolve => {
        const look = () => {
          const found = logs
            .map(line => JSON.parse(line) as Record<string, unknown>)
            .find(line => line['msg'] === 'request' && accepts(line))
          if (found === undefined) return
          listeners.delete(look)
          resolve(found)
        }
        listeners.add(look)
        look()
      })
    },
  }
}
