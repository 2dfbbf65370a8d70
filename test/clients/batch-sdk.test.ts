// The official Batch client for JavaScript, which drops a base path and therefore needs the route's own port.

import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { BatchServiceClient, BatchSharedKeyCredentials } from '@azure/batch'
import t from 'tap'
import { patternBytes } from '../../src/standin/standin.ts'
import { openDemo } from '../helpers/demo.ts'

const { standin, url, batchUrl, accessLines } = await openDemo(t)

/** Each request as the client sent it. */
const sent: { readonly url: string; readonly authorization: string | undefined }[] = []
/** With a key that opens nothing, to satisfy the client. */
const client = new BatchServiceClient(new BatchSharedKeyCredentials('acct', 'AAAA'), batchUrl, {
  requestPolicyFactories: defaults => [
    ...defaults,
    {
      create: next => ({
        sendRequest(request) {
          sent.push({ url: request.url, authorization: request.headers.get('authorization') })
          return next.sendRequest(request)
        },
      }),
    },
  ],
})

t.test('lists 2,500 jobs on three pages; each link leads back to the gateway', async t => {
  t.not(batchUrl, url, 'on a port of its own')
  let page = await client.job.list()
  const sizes = [page.length]
  const ids = page.map(job => job.id)
  while (page.odatanextLink !== undefined) {
    t.ok(page.odatanextLink.startsWith(`${batchUrl}/jobs?`), page.odatanextLink)
    page = await client.job.listNext(page.odatanextLink)
    sizes.push(page.length)
    ids.push(...page.map(job => job.id))
  }
  t.strictSame(sizes, [1000, 1000, 500])
  t.equal(new Set(ids).size, 2500)
})

t.test('adds a job and a task, gets the job, deletes it', async t => {
  const added = await client.job.add({ id: 'sdk', poolInfo: { poolId: 'pool-1' }, priority: 5 })
  t.equal(added._response.status, 201)
  t.equal(added.dataServiceId, `${batchUrl}/jobs/sdk`, 'the header names the job at the gateway')
  const task = await client.task.add('sdk', { id: 't1', commandLine: 'echo hello' })
  t.equal(task._response.status, 201)

  const job = await client.job.get('sdk')
  t.match(job, { id: 'sdk', priority: 5, poolInfo: { poolId: 'pool-1' } })
  const tasks = await client.task.list('sdk')
  t.strictSame(
    tasks.map(({ id, commandLine }) => [id, commandLine]),
    [['t1', 'echo hello']],
  )

  t.equal((await client.job.deleteMethod('sdk'))._response.status, 202)
  await t.rejects(client.job.get('sdk'), { statusCode: 404, code: 'JobNotFound' })
})

t.test('a change under If-Match: 412 for a tag of the past, 200 for the present one', async t => {
  const { eTag } = await client.job.get('job-00001')
  const patch = (ifMatch: string) =>
    client.job.patch('job-00001', { priority: 7 }, { jobPatchOptions: { ifMatch } })
  await t.rejects(patch('0x8D0000000000000'), { statusCode: 412, code: 'ConditionNotMet' })
  t.equal((await patch(eTag!))._response.status, 200)
  t.equal((await client.job.get('job-00001')).priority, 7)
})

t.test('downloads a range of a file, and files whose paths have an encoded slash or backslash', async t => {
  const download = async (path: string, ocpRange?: string) => {
    const options = ocpRange === undefined ? {} : { fileGetFromTaskOptions: { ocpRange } }
    const answer = await client.file.getFromTask('job-00001', 'task-1', path, options)
    return buffer(Readable.from(answer.readableStreamBody!))
  }
  const range = await download('wd/large.bin', 'bytes=100000-399999')
  t.ok(range.equals(await buffer(patternBytes(100_000, 400_000))), `${range.length} bytes`)
  t.equal(standin.batch.requests.at(-1)!.headers['ocp-range'], 'bytes=100000-399999')

  t.match(String(await download('wd/output.txt')), 'in the directory wd')
  t.match(standin.batch.requests.at(-1)!.url, '/files/wd%2Foutput.txt?')
  t.match(String(await download('wd\\output.txt')), 'a name with a backslash')
  t.match(standin.batch.requests.at(-1)!.url, '/files/wd%5Coutput.txt?')
})

t.test('HEAD answers come with their headers and no body', async t => {
  const pool = await client.pool.exists('pool-1')
  t.equal(pool.body, true)
  t.match(pool.eTag, /^0x/)
  t.equal((await client.pool.exists('pool-9')).body, false)

  const file = await client.file.getPropertiesFromTask('job-00001', 'task-1', 'wd/large.bin')
  t.equal(file.contentLength, 64 * 1024 * 1024)
})

t.test('of all this, Batch saw one verified token for its audience, and never the key', async t => {
  const { requests, counters } = standin.batch
  t.ok(requests.every(({ token }) => token?.aud === 'https://batch.core.windows.net/'))
  t.equal(counters.refusedTokens, 0, 'each signature and lifetime was good')
  t.equal(new Set(requests.map(({ jti }) => jti)).size, 1)
  t.equal(standin.imds.counters.tokensIssued, 2, 'one for Batch, one for ML')
  t.notMatch(JSON.stringify(requests), /SharedKey/i)

  t.ok(
    sent.every(({ authorization }) => authorization?.startsWith('SharedKey acct:')),
    'the client did send it',
  )
  t.ok(sent.every(({ url }) => url.startsWith(`${batchUrl}/`)))
  t.equal(sent.length, 19)
  t.equal(requests.length, sent.length, 'every request arrived, and once')
  const lines = await accessLines(sent.length)
  t.strictSame(
    lines.map(({ method, status }) => ({ method, status })),
    requests.map(({ method, status }) => ({ method, status })),
    'none went around the gateway',
  )
})
