// The built program as a process (`npm test` builds it first): what it prints, and how it ends.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, watch, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { resolve } from 'node:path'
import t, { type Test } from 'tap'
import { openRecorder } from '../helpers/recorder.ts'

const PROGRAM = resolve('dist/entra-proxy.js')

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

interface Program {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
}

function start(t: Test, args: readonly string[], env: Record<string, string> = {}): Program {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    cwd: t.testdirName,
    env: { PATH: process.env['PATH'], HOME: t.testdirName, ...env },
  })
  t.teardown(() => child.kill('SIGKILL'))
  let out = ''
  let err = ''
  child.stdout.on('data', chunk => {
    out += chunk
  })
  child.stderr.on('data', chunk => {
    err += chunk
  })
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, out, err }))
  return { child, ended }
}

function run(t: Test, args: readonly string[], env?: Record<string, string>): Promise<Ended> {
  t.testdir({})
  return start(t, args, env).ended
}

/** A running gateway with a static token, and what its ready file says. */
async function startReady(t: Test, upstream: string, args: readonly string[] = []) {
  const folder = t.testdir({ token: 'canary-token-0123456789' })
  writeFileSync(
    `${folder}/entra-proxy.yaml`,
    `version: 1
listen: localhost:0
admin: { listen: localhost:0 }
routes:
  - { path: /api, upstream: "${upstream}", scope: api://x/.default, credential: { type: static, tokenFile: ${folder}/token } }
`,
  )
  const readyFile = `${folder}/ready.json`
  const ready = new Promise<void>(resolve => {
    const watcher = watch(folder, () => {
      if (!existsSync(readyFile)) return
      watcher.close()
      resolve()
    })
    t.teardown(() => watcher.close())
  })
  const program = start(t, ['run', '--ready-file', readyFile, ...args])
  await Promise.race([
    ready,
    program.ended.then(({ code, err }) => Promise.reject(new Error(`ended with ${code}: ${err}`))),
  ])
  const facts = JSON.parse(readFileSync(readyFile, 'utf8')) as {
    url: string
    adminUrl: string
    pid: number
    version: string
  }
  return { ...program, facts, readyFile, folder }
}

t.test('wrong words end with exit 2 and a way on', async t => {
  const nothing = await run(t, [])
  t.match(nothing, { code: 2, err: /nothing to run/ })
  t.match(nothing.err, /entra-proxy https:\/\//)
  t.match(nothing.err, /entra-proxy demo/)
  t.match(await run(t, ['rnu']), { code: 2, err: /neither a command nor a URL[\s\S]*run, demo/ })
  t.match(await run(t, ['run', '--bogus']), { code: 2, err: /unknown option/ })
  t.match(await run(t, ['run', '-p', 'x', 'https://a.b.batch.azure.com']), { code: 2, err: /whole number/ })
  t.match(await run(t, ['run', '-c', 'nope.yaml']), { code: 2, err: /nope\.yaml/ })
  t.match(await run(t, ['https://a.b.batch.azure.com'], { NODE_TLS_REJECT_UNAUTHORIZED: '0' }), {
    code: 2,
    err: /certificate checks off/,
  })
})

t.test('help, version and schema answer at once', async t => {
  t.match(await run(t, ['help']), { code: 0, out: /Exit codes:[\s\S]*143/ })
  t.match(await run(t, ['--version']), { code: 0, out: /^entra-proxy \d/ })
  t.match(JSON.parse((await run(t, ['version', '--json'])).out), {
    version: /^\d/,
    node: process.versions.node,
  })
  const schema = await run(t, ['schema'])
  t.equal(schema.code, 0)
  t.match(JSON.parse(schema.out), { $schema: /draft-07/, properties: { routes: {} } })
})

t.test('a dry run prints the effective routes and opens nothing', async t => {
  const { code, out } = await run(t, [
    '--dry-run',
    '-r',
    '/batch=contoso.westeurope.batch.azure.com',
    '-r',
    '/score=https://x.westeurope.inference.ml.azure.com/score',
  ])
  t.equal(code, 0)
  t.match(
    out,
    /\/batch {2}-> {2}https:\/\/contoso\.westeurope\.batch\.azure\.com.*https:\/\/batch\.core\.windows\.net\/\/\.default/,
  )
  t.match(out, /\/score {2}-> {2}https:\/\/x\.westeurope\.inference\.ml\.azure\.com\/score.*ml-online/)
})

t.test('a busy port is exit 6 with a remedy, never another port', async t => {
  const holder = createServer().listen(0, '127.0.0.1')
  await once(holder, 'listening')
  t.teardown(() => holder.close())
  const { port } = holder.address() as { port: number }
  const args = [
    'https://contoso.westeurope.batch.azure.com',
    '--listen',
    `127.0.0.1:${port}`,
    '--admin-listen',
    'off',
  ]
  t.match(await run(t, args), {
    code: 6,
    err: new RegExp(`127\\.0\\.0\\.1:${port} is already in use[\\s\\S]*--port`),
  })
  const admin = [
    'https://contoso.westeurope.batch.azure.com',
    '-p',
    '0',
    '--admin-listen',
    `127.0.0.1:${port}`,
  ]
  t.match(await run(t, admin), { code: 6, err: /--admin-listen/ })
})

t.test('from ready file to SIGTERM: requests pass, every log line is JSON, exit 0', async t => {
  const upstream = await openRecorder()
  t.teardown(() => upstream.close())
  const { child, ended, facts, readyFile } = await startReady(t, upstream.origin)
  t.match(facts, {
    url: /^http:\/\/localhost:\d+$/,
    adminUrl: /^http:\/\/localhost:\d+$/,
    pid: child.pid!,
    version: /^\d/,
  })
  const response = await fetch(`${facts.url}/api/x`)
  t.equal(await response.text(), 'ok')
  child.kill('SIGTERM')
  const { code, out } = await ended
  t.equal(code, 0)
  const lines = out
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>)
  t.match(
    lines.map(line => line['msg']),
    ['token acquired', 'ready', 'request', 'stopping', 'stopped'],
  )
  t.notMatch(out, 'canary-token')
  t.notOk(existsSync(readyFile), 'the ready file is gone')
})

t.test('Ctrl-C ends with 130; a second one does not wait', async t => {
  const upstream = await openRecorder(() => {})
  t.teardown(() => upstream.close())
  const quiet = await startReady(t, upstream.origin)
  quiet.child.kill('SIGINT')
  t.match(await quiet.ended, { code: 130 })

  const busy = await startReady(t, upstream.origin)
  const hanging = fetch(`${busy.facts.url}/api/x`).catch(() => 'cut')
  await upstream.until(() => upstream.requests.length === 1)
  busy.child.kill('SIGINT')
  await new Promise<void>(resolve => {
    busy.child.stdout!.on('data', chunk => {
      if (String(chunk).includes('stopping')) resolve()
    })
  })
  busy.child.kill('SIGINT')
  t.match(await busy.ended, { code: 130 })
  t.equal(await hanging, 'cut')
})

t.test('SIGHUP takes a good file into use and keeps the old one when it is bad', async t => {
  const upstream = await openRecorder()
  t.teardown(() => upstream.close())
  const { child, ended, facts, folder } = await startReady(t, upstream.origin)
  const file = `${folder}/entra-proxy.yaml`
  const good = readFileSync(file, 'utf8')
  const logged = (pattern: RegExp) =>
    new Promise<void>(resolve => {
      child.stdout!.on('data', chunk => {
        if (pattern.test(String(chunk))) resolve()
      })
    })
  writeFileSync(file, good.replace('/api', '/renamed'))
  const reloaded = logged(/configuration reloaded/)
  child.kill('SIGHUP')
  await reloaded
  t.equal((await fetch(`${facts.url}/renamed/x`)).status, 200)
  t.equal((await fetch(`${facts.url}/api/x`)).status, 404)

  writeFileSync(file, good.replace('routes:', 'routs:'))
  const refused = logged(/configuration not reloaded/)
  child.kill('SIGHUP')
  await refused
  t.equal((await fetch(`${facts.url}/renamed/x`)).status, 200)
  const metrics = await (await fetch(`${facts.adminUrl}/metrics`)).text()
  t.match(metrics, /entra_proxy_config_last_reload_successful 0/)
  child.kill('SIGTERM')
  t.match(await ended, { code: 0, out: /routs/ })
})

t.test('what cannot work is said, and nothing is left running', async t => {
  const url = 'https://contoso.westeurope.batch.azure.com'
  const free = ['-p', '0', '--admin-listen', 'off']
  const unknown = await run(t, [url, ...free], { AZURE_TOKEN_CREDENTIALS: 'foo' })
  t.match(unknown, { code: 2, err: /AZURE_TOKEN_CREDENTIALS[\s\S]*fix {2}\S/ })
  const folder = t.testdir({ token: 'canary-token-0123456789' })
  writeFileSync(
    `${folder}/entra-proxy.yaml`,
    `version: 1
listen: localhost:0
admin: { listen: off }
routes:
  - { path: /api, upstream: "https://x.example", scope: api://x/.default, credential: { type: static, tokenFile: ${folder}/token } }
`,
  )
  const nowhere = await start(t, ['run', '--ready-file', `${folder}/no/such/place`]).ended
  t.match(nowhere, { code: 1, err: /cannot write the ready file/ })
})

t.test('--require-token ends with 4 when there is no token', async t => {
  const folder = t.testdir({})
  writeFileSync(
    `${folder}/entra-proxy.yaml`,
    `version: 1
listen: localhost:0
admin: { listen: off }
routes:
  - { path: /api, upstream: "https://x.example", scope: api://x/.default, credential: { type: static, tokenFile: ${folder}/missing } }
`,
  )
  const { code, err } = await start(t, ['run', '--require-token']).ended
  t.equal(code, 4)
  t.match(err, /no token for route api[\s\S]*fix {2}\S/)
})
