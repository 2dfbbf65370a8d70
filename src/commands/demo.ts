// `demo`: a gateway in front of the offline stand-in. No Azure account, no network, the same code as
// `run`; what a newcomer sees is what the tests test.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadConfig } from '../config/load.ts'
import { EXIT, type ExitCode } from '../errors.ts'
import { type Gateway, startGateway } from '../gateway.ts'
import { type Standin, startStandin } from '../standin/standin.ts'
import type { Io } from './io.ts'
import { openLogging, serve } from './run.ts'
import { makeTour } from './tour.ts'

export interface DemoOptions {
  /** Make the tour and stop. */
  readonly once?: boolean
  readonly port?: number
  readonly adminListen?: string
  /** Seconds. */
  readonly tokenLife?: number
  readonly quiet?: boolean
  readonly readyFile?: string
}

/** Batch's own port, for SDKs that drop a base path; a free one when the gateway's is chosen. */
const BATCH_PORT = 8660

/** What would lead the identity library away from the stand-in. */
const FOREIGN_IDENTITY =
  /^(?:AZURE_.*|IDENTITY_.*|MSI_.*|IMDS_ENDPOINT|(?:https?|all|no)_proxy|(?:HTTPS?|ALL|NO)_PROXY)$/

export async function runDemo(options: DemoOptions, io: Io): Promise<ExitCode> {
  const startedAt = io.clock.monotonic()
  const standin = await startStandin({
    clock: io.clock,
    ...(options.tokenLife === undefined ? {} : { tokenLifeSeconds: options.tokenLife }),
  })
  const folder = mkdtempSync(join(tmpdir(), 'entra-proxy-demo-'))
  io.onExit(() => rmSync(folder, { recursive: true, force: true }))
  try {
    const secretFile = join(folder, 'client-secret')
    writeFileSync(secretFile, standin.clientSecret, { mode: 0o600 })
    for (const name of Object.keys(io.env)) if (FOREIGN_IDENTITY.test(name)) io.setEnv(name, undefined)
    io.setEnv('AZURE_POD_IDENTITY_AUTHORITY_HOST', standin.imds.url)

    const flags = {
      config: '(demo)',
      quiet: options.quiet ?? options.once ?? false,
      ...(options.adminListen === undefined ? {} : { adminListen: options.adminListen }),
      ...(options.readyFile === undefined ? {} : { readyFile: options.readyFile }),
    }
    const { file: _, ...config } = loadConfig({
      flags,
      env: {},
      cwd: io.cwd,
      readFile: () => demoConfig(standin, secretFile, options.port),
    })
    const logging = openLogging(config, flags, io)
    const gateway = await startGateway({
      ...logging,
      config,
      env: io.env,
      clock: io.clock,
      version: io.version,
      nodeVersion: io.nodeVersion,
      extraCa: [standin.caPem],
      startQuietly: logging.pretty,
    })
    if (!options.once) {
      const facts = { startedAt, configSource: 'made by the demo', invitation: invite }
      return await serve(gateway, { ...logging, flags, ...facts }, io)
    }
    await gateway.firstTokens
    const good = await makeTour(gateway, standin, io)
    await gateway.drain(config.shutdown.graceMs)
    return good ? EXIT.ok : EXIT.failure
  } finally {
    await standin.close()
  }
}

/** Read like any configuration file. `trustUpstream`, because the stand-in is not at Azure's addresses. */
export function demoConfig(standin: Standin, secretFile: string, port?: number): string {
  return `
version: 1
listen: localhost:${port ?? 8656}
routes:
  - name: jobs
    path: /batch
    listen: localhost:${port === undefined ? BATCH_PORT : 0}
    upstream: ${standin.batch.url}
    preset: batch
    trustUpstream: true
    query: { api-version: 2024-07-01.20.0 }
    credential: { type: managed-identity }
  - name: score
    path: /score
    upstream: ${standin.mlOnline.url}/score
    preset: ml-online
    trustUpstream: true
    credential: { type: managed-identity }
  - name: nightly
    path: /nightly
    upstream: ${standin.mlBatch.url}/jobs
    preset: ml-batch
    trustUpstream: true
    credential:
      type: client-secret
      tenantId: ${standin.tenantId}
      clientId: ${standin.clientId}
      clientSecretFile: ${JSON.stringify(secretFile)}
      authorityHost: ${standin.entra.url}
`
}

/** Lines to paste, in an order that works. */
function invite(gateway: Gateway): string[] {
  const { url } = gateway
  const json = "-H 'content-type: application/json'"
  // Batch takes no other type for what it creates.
  const odata = "-H 'content-type: application/json; odata=minimalmetadata'"
  return [
    '  Entra, IMDS, Batch and ML are stand-ins on this machine. Paste into another terminal:',
    '',
    '  # list jobs, then follow the paging link by hand: it leads back to the gateway',
    `  curl '${url}/batch/jobs?maxresults=2'`,
    `  curl "$(curl -s '${url}/batch/jobs?maxresults=2' | sed -n 's/.*"odata.nextLink": *"\\([^"]*\\)".*/\\1/p')"`,
    '',
    '  # submit a job and a task, read what the task wrote',
    `  curl -i ${url}/batch/jobs ${odata} -d '{"id":"mine","poolInfo":{"poolId":"pool-1"}}'`,
    `  curl -i ${url}/batch/jobs/mine/tasks ${odata} -d '{"id":"t1","commandLine":"echo hello"}'`,
    `  curl ${url}/batch/jobs/mine/tasks/t1/files/stdout.txt`,
    '',
    '  # score, and score as a stream',
    `  curl ${url}/score ${json} -d '{"data":[[1,2,3]]}'`,
    `  curl -N ${url}/score ${json} -H 'accept: text/event-stream' -d '{"data":[[1,2,3]]}'`,
    '',
    '  # start a job of the batch endpoint and poll it',
    `  job=$(curl -s ${url}/nightly ${json} -d '{"properties":{"InputData":{}}}' | sed -n 's/.*"name": *"\\(batchjob[^"]*\\)".*/\\1/p' | head -n 1)`,
    `  curl ${url}/nightly/$job`,
    '',
    `  SDKs that drop a base path use Batch's own port: ${gateway.ownPorts.get('jobs')}`,
    '  The same tour by itself: npm start -- --once  (installed: entra-proxy demo --once)',
    '',
  ]
}
