// Node's own fetch, which sends `sec-fetch-mode`, keeps connections, and streams in both directions.

import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { patternBytes } from '../../src/standin/standin.ts'
import { openDemo } from '../helpers/demo.ts'
import { ManualClock } from '../helpers/manual-clock.ts'
import { BATCH_JSON } from '../helpers/standin-client.ts'

/** The stand-in's time. It passes when a test says so, and so do the pauses of its streams. */
const clock = new ManualClock(Date.now())
const SSE = { events: 4, intervalMs: 100 }
const { standin, url } = await openDemo(t, { clock, sse: SSE })
const batch = `${url}/batch`
const scratch = `${batch}/~standin`

const BYTES = 3 * 1024 * 1024
const content = await buffer(patternBytes(0, BYTES))
const digest = { bytes: BYTES, sha256: sha256(content) }

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

t.test('follows the paging links to the last of 2,500 jobs', async t => {
  const pages: number[] = []
  let next: string | undefined = `${batch}/jobs`
  while (next !== undefined) {
    t.ok(next.startsWith(`${batch}/jobs`), next)
    const response: Response = await fetch(next)
    t.equal(response.status, 200)
    const page = (await response.json()) as { value: unknown[]; 'odata.nextLink'?: string }
    pages.push(page.value.length)
    next = page['odata.nextLink']
  }
  t.strictSame(pages, [1000, 1000, 500])
})

t.test('uploads 3 MB with a length, and as a stream without one', async t => {
  const whole = await fetch(`${scratch}/sink`, { method: 'POST', body: content })
  t.strictSame(await whole.json(), digest)
  t.equal(standin.batch.requests.at(-1)!.headers['content-length'], String(BYTES))

  const body = ReadableStream.from(patternBytes(0, BYTES))
  const streamed = await fetch(`${scratch}/sink`, { method: 'PUT', body, duplex: 'half' } as RequestInit)
  t.strictSame(await streamed.json(), digest)
  t.equal(standin.batch.requests.at(-1)!.headers['transfer-encoding'], 'chunked')
})

t.test('downloads 3 MB with a length, and chunked without one', async t => {
  const whole = await fetch(`${scratch}/bytes/${BYTES}`)
  t.equal(whole.headers.get('content-length'), String(BYTES))
  t.equal(sha256(new Uint8Array(await whole.arrayBuffer())), digest.sha256)

  const chunked = await fetch(`${scratch}/bytes/${BYTES}?chunked`)
  t.equal(chunked.headers.get('content-length'), null)
  t.equal(sha256(new Uint8Array(await chunked.arrayBuffer())), digest.sha256)
})

t.test('gets each server-sent event when it is sent, not when the answer ends', async t => {
  const response = await fetch(`${url}/score`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: '{"data":[[1,2,3]]}',
  })
  t.match(response.headers.get('content-type'), 'text/event-stream')
  const request = standin.mlOnline.requests.at(-1)!
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  for (let event = 1; event <= SSE.events; event++) {
    const { value } = await reader.read()
    t.equal(value, `data: {"answer":"part ${event} of ${SSE.events}"}\n\n`)
    if (event === SSE.events) break
    t.equal(request.state, 'open', 'the answer goes on')
    await clock.advance(SSE.intervalMs)
  }
  t.equal((await reader.read()).done, true)
})

t.test('HEAD of a file has its length and no body', async t => {
  const response = await fetch(`${batch}/jobs/job-00001/tasks/task-1/files/wd%2Flarge.bin`, {
    method: 'HEAD',
  })
  t.equal(response.status, 200)
  t.equal(response.headers.get('content-length'), String(64 * 1024 * 1024))
  t.equal((await response.arrayBuffer()).byteLength, 0)
  t.equal(standin.batch.requests.at(-1)!.method, 'HEAD')
})

t.test('DELETE with a content type and no body is a request like any other', async t => {
  const headers = { 'content-type': BATCH_JSON }
  const response = await fetch(`${batch}/jobs/job-00002`, { method: 'DELETE', headers })
  t.equal(response.status, 202)
  t.equal(await response.text(), '')
  t.equal((await fetch(`${batch}/jobs/job-00002`)).status, 404)
})

t.test('conditions pass: 304 for the present tag, 412 for another, the bare tag as it came', async t => {
  const job = `${batch}/jobs/job-00003`
  const etag = (await fetch(job)).headers.get('etag')!
  t.match(etag, /^0x[\dA-F]+$/)

  const unchanged = await fetch(job, { headers: { 'if-none-match': etag } })
  t.equal(unchanged.status, 304)
  t.equal(unchanged.headers.get('etag'), etag)
  t.equal(await unchanged.text(), '')

  const patch = (tag: string) =>
    fetch(job, {
      method: 'PATCH',
      headers: { 'content-type': BATCH_JSON, 'if-match': tag },
      body: '{"priority":9}',
    })
  const refused = await patch('0x8D0000000000000')
  t.equal(refused.status, 412)
  t.match(await refused.json(), { code: 'ConditionNotMet' })
  t.equal(refused.headers.get('x-entra-proxy-error'), null, "the answer is Batch's own")
  t.equal((await patch(etag)).status, 200)
})
