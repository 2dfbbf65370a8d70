// The REST client that the newer Azure libraries for JavaScript are generated on: it keeps a base path, and talks
// to plain http when told to and given no credential.

import { getClient, type HttpResponse } from '@azure-rest/core-client'
import t from 'tap'
import { openDemo } from '../helpers/demo.ts'
import { BATCH_JSON } from '../helpers/standin-client.ts'

const { standin, url, accessLines } = await openDemo(t)
const base = `${url}/batch`
const client = getClient(base, { allowInsecureConnection: true })

interface Page {
  readonly value: readonly { readonly id: string }[]
  readonly 'odata.nextLink'?: string
}

/** The body of a 200. */
function bodyOf<T>(response: HttpResponse): T {
  if (response.status === '200') return response.body as T
  throw new Error(`${response.status} ${JSON.stringify(response.body)}`)
}

t.test('lists 2,500 jobs on three pages below a path prefix', async t => {
  let page = bodyOf<Page>(await client.path('/jobs').get())
  const sizes = [page.value.length]
  const ids = page.value.map(job => job.id)
  for (;;) {
    const link = page['odata.nextLink']
    if (link === undefined) break
    t.ok(link.startsWith(`${base}/jobs?`), link)
    page = bodyOf<Page>(await client.pathUnchecked(link).get())
    sizes.push(page.value.length)
    ids.push(...page.value.map(job => job.id))
  }
  t.strictSame(sizes, [1000, 1000, 500])
  t.equal(new Set(ids).size, 2500)
})

t.test('adds, gets and deletes a job; Location is where the client finds it', async t => {
  const added = await client.path('/jobs').post({
    contentType: BATCH_JSON,
    body: { id: 'rest', poolInfo: { poolId: 'pool-1' }, priority: 5 },
  })
  t.equal(added.status, '201')
  t.equal(added.headers['location'], `${base}/jobs/rest`)

  const job = bodyOf(await client.pathUnchecked(added.headers['location']!).get())
  t.match(job, { id: 'rest', priority: 5, poolInfo: { poolId: 'pool-1' } })
  t.strictSame(bodyOf(await client.path('/jobs/{id}', 'rest').get()), job)

  t.equal((await client.path('/jobs/{id}', 'rest').delete({ contentType: BATCH_JSON })).status, '202')
  const gone = await client.path('/jobs/{id}', 'rest').get()
  t.equal(gone.status, '404')
  t.match(gone.body, { code: 'JobNotFound' })
})

t.test('a file name with a slash stays one segment', async t => {
  const path = '/jobs/{job}/tasks/{task}/files/{file}'
  const response = await client.path(path, 'job-00001', 'task-1', 'wd/output.txt').get()
  t.equal(response.status, '200')
  t.match(standin.batch.requests.at(-1)!.url, '/jobs/job-00001/tasks/task-1/files/wd%2Foutput.txt?')
})

t.test(
  'a version the client asks for is left alone; where it asks for none, the route adds its own',
  async t => {
    const query = async (queryParameters: Record<string, string>) => {
      bodyOf(await client.path('/pools').get({ queryParameters }))
      return standin.batch.requests.at(-1)!.url
    }
    t.equal(await query({ 'api-version': '2023-11-01.18.0' }), '/pools?api-version=2023-11-01.18.0')
    t.equal(await query({}), '/pools?api-version=2024-07-01.20.0')
  },
)

t.test('of all this, Batch saw one verified token for its audience', async t => {
  const { requests, counters } = standin.batch
  t.equal(requests.length, 11)
  t.ok(requests.every(({ token }) => token?.aud === 'https://batch.core.windows.net/'))
  t.equal(counters.refusedTokens, 0)
  t.equal(new Set(requests.map(({ jti }) => jti)).size, 1)
  t.equal((await accessLines(requests.length)).length, requests.length, 'none went around the gateway')
})
