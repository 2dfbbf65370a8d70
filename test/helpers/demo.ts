// The whole product on free ports, as `entra-proxy demo` puts it together: the stand-in, and a gateway in front
// of it that gets its tokens from the stand-in's IMDS and Entra. For clients, which know a URL and nothing else.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { demoConfig } from '../../src/commands/demo.ts'
import { loadConfig } from '../../src/config/load.ts'
import { type Standin, type StandinOptions, startStandin } from '../../src/standin/standin.ts'
import { openGateway } from './gateway.ts'

export interface Demo {
  readonly standin: Standin
  /** The main listener: Batch below `/batch`, the online endpoint at `/score`, the batch endpoint at `/nightly`. */
  readonly url: string
  /** Batch's own port, mounted at the root. */
  readonly batchUrl: string
  /** The access lines so far, once there are `count` of them: a line comes after its answer. */
  accessLines(count: number): Promise<readonly Record<string, unknown>[]>
}

/** What would lead the identity library, or a client, away from the stand-in. */
const FOREIGN =
  /^(?:AZURE_.*|IDENTITY_.*|MSI_.*|IMDS_ENDPOINT|(?:https?|all|no)_proxy|(?:HTTPS?|ALL|NO)_PROXY)$/

/**
 * Opens both until the end of `t`. Once per process: the identity library remembers where it found the managed
 * identity. Changes `process.env`, which that library and some clients read by themselves.
 */
export async function openDemo(t: Test, options: StandinOptions = {}): Promise<Demo> {
  const standin = await startStandin(options)
  const folder = mkdtempSync(join(tmpdir(), 'entra-proxy-clients-'))
  t.teardown(async () => {
    rmSync(folder, { recursive: true, force: true })
    await standin.close()
  })
  const secretFile = join(folder, 'client-secret')
  writeFileSync(secretFile, standin.clientSecret, { mode: 0o600 })
  for (const name of Object.keys(process.env)) if (FOREIGN.test(name)) delete process.env[name]
  process.env['AZURE_POD_IDENTITY_AUTHORITY_HOST'] = standin.imds.url

  const { routes, ...config } = loadConfig({
    flags: { config: '(test)', adminListen: 'off', logLevel: 'trace', logFormat: 'json' },
    env: {},
    cwd: folder,
    readFile: () => demoConfig(standin, secretFile, 0),
  })
  const { gateway, url, logs, accessLine } = await openGateway(t, {
    ...config,
    routes: routes.map(route => ({ ...route, upstream: route.upstream.origin + route.upstream.basePath })),
    env: process.env,
    extraCa: [standin.caPem],
  })
  const lines = () =>
    logs.map(line => JSON.parse(line) as Record<string, unknown>).filter(line => line['msg'] === 'request')
  return {
    standin,
    url,
    batchUrl: gateway.ownPorts.get('jobs')!,
    async accessLines(count) {
      await accessLine(() => lines().length >= count)
      return lines()
    },
  }
}
