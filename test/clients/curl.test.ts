// curl, as scripts call it: uploads that ask first, old and new versions of HTTP, cut bodies and its exit codes.

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import t from 'tap'
import { patternBytes } from '../../src/standin/standin.ts'
import { openDemo } from '../helpers/demo.ts'
import { ManualClock } from '../helpers/manual-clock.ts'

/** What this curl can do, in its own words; undefined where there is no curl. */
const about = spawnSync('curl', ['--version'], { encoding: 'utf8' }).stdout as string | null
const skip = about === null && 'there is no curl on this machine'
const without = (feature: string) =>
  skip || (!about!.includes(` ${feature}`) && `this curl has no ${feature}`)

/** The stand-in's time, and that of the pauses in its streams. */
const clock = new ManualClock(Date.now())
const SSE = { events: 4, intervalMs: 100 }
const { standin, url } = await openDemo(t, { clock, sse: SSE })
const batch = `${url}/batch`
const scratch = `${batch}/~standin`

const BYTES = 3 * 1024 * 1024
const content = await buffer(patternBytes(0, BYTES))
const digest = { bytes: BYTES, sha256: createHash('sha256').update(content).digest('hex') }
const file = join(t.testdir({ 'upload.bin': content }), 'upload.bin')

/** Whatever goes wrong, curl ends before the test's own time does. It reads no .curlrc. */
function start(args: readonly string[], input?: Uint8Array) {
  const child = spawn('curl', ['-q', '-sS', '--max-time', '30', ...args], { stdio: 'pipe' })
  child.stdin.on('error', () => {}) // curl need not read it all
  child.stdin.end(input)
  const exit = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  return { stdout: child.stdout as Readable, stderr: text(child.stderr), exit }
}

async function curl(args: readonly string[], input?: Uint8Array) {
  const { stdout, stderr, exit } = start(args, input)
  const bytes = await buffer(stdout)
  return { code: await exit, bytes, text: bytes.toString(), stderr: await stderr }
}

interface Page {
  readonly value: readonly { readonly id: string }[]
  readonly 'odata.nextLink'?: string
}

t.test('curl lists jobs, and pages by pasting the link it got', { skip }, async t => {
  const first = await curl([`${batch}/jobs?maxresults=1000`])
  t.equal(first.code, 0)
  const page: Page = JSON.parse(first.text)
  t.equal(page.value.length, 1000)
  const second = await curl([page['odata.nextLink']!])
  t.equal(second.code, 0)
  t.equal((JSON.parse(second.text) as Page).value[0]!.id, 'job-01001')
})

t.test('--data-binary of 3 MB waits for 100 Continue, gets it, and arrives whole', { skip }, async t => {
  const answer = await curl([
    '-v',
    ...['--expect100-timeout', '30', '-H', 'content-type: application/octet-stream'],
    ...['--data-binary', `@${file}`, `${scratch}/sink`],
  ])
  t.equal(answer.code, 0)
  t.match(answer.stderr, /^> Expect: 100-continue\r?$/m)
  t.match(answer.stderr, /^< HTTP\/1\.1 100 Continue\r?$/m)
  t.strictSame(JSON.parse(answer.text), digest)
  const { headers } = standin.batch.requests.at(-1)!
  t.match(headers, { 'content-length': String(BYTES), expect: undefined }, 'the wait is between curl and us')
})

t.test('-T puts a file with its length, and stdin chunked', { skip }, async t => {
  const put = await curl(['-T', file, `${scratch}/sink`])
  t.equal(put.code, 0)
  t.strictSame(JSON.parse(put.text), digest)
  t.match(standin.batch.requests.at(-1), { method: 'PUT', headers: { 'content-length': String(BYTES) } })

  const piped = await curl(['-T', '-', `${scratch}/sink`], content)
  t.equal(piped.code, 0)
  t.strictSame(JSON.parse(piped.text), digest)
  t.match(standin.batch.requests.at(-1), { method: 'PUT', headers: { 'transfer-encoding': 'chunked' } })
})

t.test('-N shows each server-sent event when it is sent', { skip }, async t => {
  const { stdout, exit } = start([
    '-N',
    ...['-H', 'accept: text/event-stream', '-H', 'content-type: application/json'],
    ...['-d', '{"data":[[1,2,3]]}', `${url}/score`],
  ])
  let event = 0
  for await (const chunk of stdout) {
    event++
    t.equal(String(chunk), `data: {"answer":"part ${event} of ${SSE.events}"}\n\n`)
    if (event < SSE.events) {
      t.equal(standin.mlOnline.requests.at(-1)!.state, 'open', 'the answer goes on')
      await clock.advance(SSE.intervalMs)
    }
  }
  t.equal(event, SSE.events)
  t.equal(await exit, 0)
})

const CODINGS = { gzip: gzipSync, br: brotliCompressSync } as const
for (const [coding, compress] of Object.entries(CODINGS)) {
  const missing = without(coding === 'br' ? 'brotli' : 'libz')
  t.test(`--compressed: ${coding} is decoded, and its links lead back`, { skip: missing }, async t => {
    /** An answer of Batch, compressed, as the stand-in itself never gives one. */
    const answerWith = (type: string, body: string) => {
      const bytes = compress(body)
      const head = `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-encoding: ${coding}\r\n`
      const length = `content-length: ${bytes.length}\r\n\r\n`
      standin.faults.batch.next({ kind: 'raw', bytes: head + length + bytes.toString('latin1') })
    }
    const list = { value: [{ id: 'zipped' }], 'odata.nextLink': `${standin.batch.url}/jobs?$skipToken=x` }
    answerWith('application/json', JSON.stringify(list))
    const json = await curl(['--compressed', `${batch}/jobs`])
    t.equal(json.code, 0)
    t.strictSame(JSON.parse(json.text), { ...list, 'odata.nextLink': `${batch}/jobs?$skipToken=x` })
    t.match(standin.batch.requests.at(-1)!.headers['accept-encoding'], coding)

    answerWith('text/plain', 'a text '.repeat(1000))
    const plain = await curl(['--compressed', '-i', `${batch}/jobs/job-00001/tasks/task-1/files/stdout.txt`])
    t.equal(plain.code, 0)
    t.match(plain.text, `content-encoding: ${coding}\r\n`, 'other bodies stay compressed on their way')
    t.ok(plain.text.endsWith(`\r\n\r\n${'a text '.repeat(1000)}`))
  })
}

t.test('-0: an HTTP/1.0 client gets a whole answer without chunks', { skip }, async t => {
  const list = await curl(['-0', '-i', `${batch}/jobs`])
  t.equal(list.code, 0)
  const [head = '', body = ''] = list.text.split('\r\n\r\n', 2)
  t.notMatch(head, /^transfer-encoding/im)
  t.equal((JSON.parse(body) as Page).value.length, 1000)

  const download = await curl(['-0', `${scratch}/bytes/${BYTES}?chunked`])
  t.equal(download.code, 0)
  t.ok(download.bytes.equals(content))

  const upload = await curl(['-0', '--data-binary', `@${file}`, `${scratch}/sink`])
  t.strictSame(JSON.parse(upload.text), digest)
})

t.test(
  '--http2: the offer of h2c is passed over, the answer comes by HTTP/1.1',
  { skip: without('HTTP2') },
  async t => {
    const answer = await curl(['--http2', '-v', `${batch}/jobs?maxresults=2`])
    t.equal(answer.code, 0)
    t.match(answer.stderr, /^> Upgrade: h2c\r?$/m)
    t.match(answer.stderr, /^< HTTP\/1\.1 200 OK\r?$/m)
    t.equal((JSON.parse(answer.text) as Page).value.length, 2)
    t.match(standin.batch.requests.at(-1)!.headers, { upgrade: undefined, 'http2-settings': undefined })
  },
)

t.test('a body the upstream cuts is a failure for curl: exit 18 or 56', { skip }, async t => {
  const PARTIAL_FILE = 18
  const RECEIVE_ERROR = 56
  const cutAt = 100_000
  for (const how of ['fin', 'rst'] as const) {
    for (const query of ['', '?chunked']) {
      const order = standin.faults.batch.next({ kind: 'cut-body', afterBytes: cutAt, how })
      const answer = await curl([`${scratch}/bytes/${BYTES}${query}`])
      const name = `${how}${query}: exit ${answer.code} after ${answer.bytes.length} bytes`
      t.ok(answer.code === PARTIAL_FILE || answer.code === RECEIVE_ERROR, name)
      t.ok(
        answer.bytes.equals(content.subarray(0, Math.min(answer.bytes.length, cutAt))),
        'nothing is made up',
      )
      t.equal(order.hits, 1)
    }
  }
})
