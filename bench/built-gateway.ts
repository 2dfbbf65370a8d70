// The built program as a child process in front of a stand-in of this process: what a user runs, with a
// memory of its own.

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Standin, type StandinOptions, startStandin } from '../src/standin/standin.ts'

export interface BuiltGateway {
  readonly standin: Standin
  readonly url: string
  readonly adminUrl: string
  readonly pid: number
  rssMiB(): number
  /** Samples the resident set; `stop` returns the largest, in MiB. */
  watchRss(): { stop(): number }
  /** Stops the program and returns its exit code and everything it logged. */
  close(): Promise<{ code: number | null; log: string }>
}

const PROGRAM = new URL('../dist/entra-proxy.js', import.meta.url).pathname

/** `moreRoutes`: lines of the configuration's route list, for upstreams of the caller's own. */
export async function openBuiltGateway(
  options: StandinOptions = {},
  moreRoutes: (standin: Standin) => Promise<string> = async () => '',
): Promise<BuiltGateway> {
  const standin = await startStandin(options)
  const folder = mkdtempSync(join(tmpdir(), 'entra-proxy-bench-'))
  const file = (name: string) => join(folder, name)
  writeFileSync(file('ca.pem'), standin.caPem)
  writeFileSync(file('secret'), standin.clientSecret)
  writeFileSync(
    file('entra-proxy.yaml'),
    `
version: 1
listen: localhost:0
admin: { listen: localhost:0 }
outbound: { caFile: ${file('ca.pem')} }
credential:
  type: client-secret
  tenantId: ${standin.tenantId}
  clientId: ${standin.clientId}
  clientSecretFile: ${file('secret')}
  authorityHost: ${standin.entra.url}
routes:
  - { path: /batch, upstream: "${standin.batch.url}", preset: batch, trustUpstream: true }
  - { path: /ml, upstream: "${standin.mlOnline.url}", preset: ml-online, trustUpstream: true }
${await moreRoutes(standin)}
`,
  )
  const ready = file('ready.json')
  const isReady = new Promise<void>(resolve => {
    const watcher = watch(folder, () => {
      try {
        readFileSync(ready)
      } catch {
        return
      }
      watcher.close()
      resolve()
    })
  })
  const child = spawn(
    process.execPath,
    [PROGRAM, 'run', '-c', file('entra-proxy.yaml'), '--ready-file', ready],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const log: Buffer[] = []
  child.stdout.on('data', chunk => log.push(chunk))
  const exited = new Promise<number | null>(resolve => child.once('exit', code => resolve(code)))
  await Promise.race([
    isReady,
    exited.then(code => {
      throw new Error(`the gateway ended with ${code}: ${Buffer.concat(log)}`)
    }),
  ])
  const { url, adminUrl } = JSON.parse(readFileSync(ready, 'utf8')) as { url: string; adminUrl: string }
  const rssMiB = () => {
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024
  }
  return {
    standin,
    url,
    adminUrl,
    pid: child.pid!,
    rssMiB,
    watchRss() {
      let most = rssMiB()
      const timer = setInterval(() => {
        most = Math.max(most, rssMiB())
      }, 100)
      return {
        stop() {
          clearInterval(timer)
          return Math.max(most, rssMiB())
        },
      }
    },
    async close() {
      child.kill('SIGTERM')
      const code = await exited
      await standin.close()
      rmSync(folder, { recursive: true, force: true })
      return { code, log: Buffer.concat(log).toString() }
    },
  }
}
