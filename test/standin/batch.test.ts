import type { Test } from 'tap'
import t from 'tap'
import type { StandinOptions } from '../../src/standin/standin.ts'
import { ManualClock } from '../helpers/manual-clock.ts'
import { API_VERSION, BATCH_JSON, openStandin, type Sent } from '../helpers/standin-client.ts'

/** A client of the Batch account with a good token; `call` takes `METHOD /path?query`, api-version added. */
async function openAccount(t: Test, options: StandinOptions = {}) {
  const client = await openStandin(t, options)
  const { batch } = client.standin
  const authorization = await client.bearer(batch.scope)
  const call = (line: string, { headers = {}, body }: Sent = {}) => {
    const [method = '', target = ''] = line.split(' ')
    const type: Record<string, string> = body === undefined ? {} : { 'content-type': BATCH_JSON }
    return client.send(`${batch.url}${target}${target.includes('?') ? '&' : '?'}${API_VERSION}`, {
      method,
      headers: { ...authorization, ...type, ...headers },
      ...(body === undefined ? {} : { body }),
    })
  }
  return { ...client, batch, authorization, call }
}

t.test('a job comes as Batch writes it: headers, bare ETag, CR LF, metadata first', async t => {
  const { batch, call } = await openAccount(t, { clock: new ManualClock(Date.UTC(2026, 0, 2, 3, 4, 5)) })
  const answer = await call('GET /jobs/job-00001')
  t.equal(answer.status, 200)
  t.match(answer.headers, {
    'content-type': 'application/json;odata=minimalmetadata',
    dataserviceversion: '3.0',
    'last-modified': 'Fri, 02 Jan 2026 03:04:05 GMT',
    server: 'Microsoft-HTTPAPI/2.0',
    'strict-transport-security': 'max-age=31536000; includeSubDomains',
    'x-content-type-options': 'nosniff',
    'transfer-encoding': 'chunked',
    'request-id': /^[\da-f-]{36}$/,
    etag: /^0x8D[\dA-F]{13}$/,
  })
  const start = `{\r\n  "odata.metadata": "${batch.url}/$metadata#jobs/@Element",\r\n  "id": "job-00001",\r\n`
  t.equal(answer.text.slice(0, start.length), start)
  t.match(answer.json(), {
    url: `${batch.url}/jobs/job-00001`,
    eTag: answer.headers['etag'],
    creationTime: '2026-01-02T03:04:05.0000000Z',
    state: 'active',
    poolInfo: { poolId: 'pool-1' },
  })
})

t.test('the client’s request id comes back only when it asks for that', async t => {
  const { call } = await openAccount(t)
  const id = '00000000-1111-2222-3333-444444444444'
  const asked = { 'client-request-id': id, 'return-client-request-id': 'true' }
  t.equal((await call('GET /pools', { headers: asked })).headers['client-request-id'], id)
  t.equal(
    (await call('GET /nothing', { headers: asked })).headers['client-request-id'],
    id,
    'in an error too',
  )
  const silent = await call('GET /pools', { headers: { 'client-request-id': id } })
  t.equal(silent.headers['client-request-id'], undefined)
})

t.test('2,500 jobs come in three pages; each link is absolute and keeps the query', async t => {
  const { batch, call, send, authorization } = await openAccount(t)
  const ids: string[] = []
  let answer = await call('GET /jobs?$filter=state%20eq%20%27active%27&$select=id,url')
  const links: string[] = []
  for (;;) {
    const { value, 'odata.nextLink': link } = answer.json()
    ids.push(...value.map(({ id }: { id: string }) => id))
    if (link === undefined) break
    links.push(link)
    answer = await send(link, { headers: authorization })
  }
  t.equal(new Set(ids).size, 2500)
  t.same([ids[0], ids[999], ids[1000], ids[2499]], ['job-00001', 'job-01000', 'job-01001', 'job-02500'])
  const query = `$filter=state%20eq%20%27active%27&$select=id,url&${API_VERSION}`
  t.same(links, [
    `${batch.url}/jobs?$skipToken=WATV2%3A1000&${query}`,
    `${batch.url}/jobs?$skipToken=WATV2%3A2000&${query}`,
  ])
})

t.test('maxresults and the page size of the account bound a page', async t => {
  const { call } = await openAccount(t, { jobs: 5, pageSize: 3 })
  const lengths = async (target: string) => (await call(`GET ${target}`)).json()['value'].length
  t.equal(await lengths('/jobs'), 3)
  t.equal(await lengths('/jobs?maxresults=2'), 2)
  t.equal(await lengths('/jobs?maxresults=1000'), 3)
  t.equal(await lengths('/jobs?$skipToken=WATV2%3A3'), 2)
  t.equal((await call('GET /jobs?maxresults=1001')).json()['code'], 'InvalidQueryParameterValue')
  t.equal((await call('GET /jobs?$skipToken=other')).json()['code'], 'InvalidQueryParameterValue')
})

t.test('a job lives: added, changed, disabled, enabled, terminated, deleted', async t => {
  const { batch, call } = await openAccount(t, { jobs: 1 })
  const url = `${batch.url}/jobs/new`
  const body = JSON.stringify({ id: 'new', poolInfo: { poolId: 'pool-2' }, priority: 5 })
  const added = await call('POST /jobs', { body })
  t.equal(added.status, 201)
  t.equal(added.text, '')
  t.match(added.headers, { location: url, dataserviceid: url, etag: /^0x/, 'last-modified': /GMT$/ })
  t.equal((await call('POST /jobs', { body })).json()['code'], 'JobExists')
  t.match((await call('GET /jobs/new')).json(), { priority: 5, executionInfo: { poolId: 'pool-2' } })
  t.equal((await call('GET /jobs')).json()['value'].length, 2)

  const patched = await call('PATCH /jobs/new', { body: '{"priority":7}' })
  t.equal(patched.status, 200)
  t.equal(patched.headers['dataserviceid'], url)
  t.not(patched.headers['etag'], added.headers['etag'])
  t.match((await call('GET /jobs/new')).json(), { priority: 7, poolInfo: { poolId: 'pool-2' } })
  t.equal((await call('PUT /jobs/new', { body: '{"poolInfo":{"poolId":"pool-1"}}' })).status, 200)
  t.match(
    (await call('GET /jobs/new')).json(),
    { priority: 0, poolInfo: { poolId: 'pool-1' } },
    'PUT replaces',
  )

  for (const [action, state] of Object.entries({
    disable: 'disabled',
    enable: 'active',
    terminate: 'completed',
  })) {
    const sent =
      action === 'disable' ? { body: '{"disableTasks":"requeue"}' } : { headers: { 'content-length': '0' } }
    const answer = await call(`POST /jobs/new/${action}`, sent)
    t.equal(answer.status, 202, action)
    t.equal(answer.headers['dataserviceid'], url)
    t.equal((await call('GET /jobs/new')).json()['state'], state)
  }
  const again = await call('POST /jobs/new/enable', { headers: { 'content-length': '0' } })
  t.match([again.status, again.json()['code']], [409, 'JobCompleted'])

  const deleted = await call('DELETE /jobs/new', { headers: { 'content-type': BATCH_JSON } })
  t.match([deleted.status, deleted.text, deleted.headers['location']], [202, '', undefined])
  const gone = await call('GET /jobs/new')
  t.match([gone.status, gone.json()['code']], [404, 'JobNotFound'])
})

t.test('an error has Batch’s envelope, with the request id of its header', async t => {
  const { batch, call } = await openAccount(t, { clock: new ManualClock(Date.UTC(2026, 0, 2, 3, 4, 5)) })
  const answer = await call('GET /jobs/none')
  t.equal(answer.status, 404)
  const id = answer.headers['request-id']
  t.same(answer.json(), {
    'odata.metadata': `${batch.url}/$metadata#Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element`,
    code: 'JobNotFound',
    message: {
      lang: 'en-US',
      value: `The specified job does not exist.\nRequestId:${id}\nTime:2026-01-02T03:04:05.0000000Z`,
    },
  })
  const codes = {
    'GET /unknown': [400, 'InvalidUri'],
    'GET /jobs/a%ZZ': [400, 'InvalidUri'],
    'PUT /jobs': [405, 'UnsupportedHttpVerb'],
    'GET /jobs/job-00001/tasks/none': [404, 'TaskNotFound'],
    'GET /pools/none': [404, 'PoolNotFound'],
    'GET /pools/pool-1/nodes/none': [404, 'NodeNotFound'],
  }
  for (const [line, [status, code]] of Object.entries(codes)) {
    const headers = { 'content-length': '0' }
    const { status: got, text } = await call(line, { headers })
    t.same([got, JSON.parse(text).code], [status, code], line)
  }
})

t.test('a request without api-version is refused, before its token is looked at', async t => {
  const { standin, send } = await openStandin(t)
  const { batch } = standin
  const answer = await send(`${batch.url}/jobs`)
  t.match(answer.json(), {
    code: 'MissingRequiredQueryParameter',
    values: [{ key: 'QueryParameterName', value: 'api-version' }],
  })
  t.equal(answer.status, 400)
  t.equal((await send(`${batch.url}/jobs?api-version=latest`)).json()['code'], 'InvalidQueryParameterValue')
})

t.test('a body must have Batch’s content type, be JSON, and stay under 1 MiB', async t => {
  const { call } = await openAccount(t)
  const code = async (sent: Sent) => {
    const answer = await call('POST /jobs', sent)
    return [answer.status, answer.json()['code']]
  }
  const body = '{"id":"x","poolInfo":{}}'
  t.same(await code({ body, headers: { 'content-type': 'application/json' } }), [400, 'InvalidHeaderValue'])
  t.same(await code({ body: '{' }), [400, 'InvalidRequestBody'])
  t.same(await code({ body: '{"id":"x"}' }), [400, 'MissingRequiredProperty'])
  t.same(await code({ body: '{"id":"a b","poolInfo":{}}' }), [400, 'InvalidInput'])
  t.same(await code({ body: JSON.stringify({ id: 'x', pad: 'x'.repeat(1024 * 1024) }) }), [
    413,
    'RequestBodyTooLarge',
  ])
  const withCharset = { 'content-type': `${BATCH_JSON}; charset=utf-8` }
  t.equal((await call('POST /jobs', { body, headers: withCharset })).status, 201, 'as older clients write it')
})

t.test('conditional requests: 304 for what is unchanged, 412 for what is not', async t => {
  const clock = new ManualClock(Date.UTC(2026, 0, 2, 3, 4, 5))
  const { call } = await openAccount(t, { clock })
  const etag = (await call('GET /jobs/job-00001')).headers['etag']!
  const status = async (line: string, headers: Record<string, string>, body?: string) =>
    (await call(line, { headers, ...(body === undefined ? {} : { body }) })).status

  const unchanged = await call('GET /jobs/job-00001', { headers: { 'if-none-match': etag } })
  t.match([unchanged.status, unchanged.text, unchanged.headers['etag']], [304, '', etag])
  t.equal(await status('GET /jobs/job-00001', { 'if-none-match': '0x8D0' }), 200)
  t.equal(await status('GET /jobs/job-00001', { 'if-modified-since': 'Fri, 02 Jan 2026 03:04:05 GMT' }), 304)
  t.equal(await status('GET /jobs/job-00001', { 'if-modified-since': 'Fri, 02 Jan 2026 03:04:04 GMT' }), 200)
  t.equal(
    await status('GET /jobs/job-00001', { 'if-unmodified-since': 'Fri, 02 Jan 2026 03:04:04 GMT' }),
    412,
  )
  t.equal(await status('PATCH /jobs/job-00001', { 'if-match': '0x8D0' }, '{"priority":1}'), 412)
  t.equal(await status('PATCH /jobs/job-00001', { 'if-match': etag }, '{"priority":1}'), 200)
  t.equal(await status('DELETE /jobs/job-00001', { 'if-match': etag }), 412, 'the tag changed with the job')
  t.equal(await status('DELETE /jobs/job-00001', { 'if-match': '*' }), 202)
})

t.test('tasks: one, many at once, listed, terminated, deleted', async t => {
  const { batch, call } = await openAccount(t, { jobs: 1 })
  const jobUrl = `${batch.url}/jobs/job-00001`
  const added = await call('POST /jobs/job-00001/tasks', { body: '{"id":"t1","commandLine":"echo hi"}' })
  t.equal(added.status, 201)
  t.equal(added.headers['location'], `${jobUrl}/tasks/t1`)
  t.match((await call('GET /jobs/job-00001/tasks/t1')).json(), {
    state: 'completed',
    commandLine: 'echo hi',
    executionInfo: { exitCode: 0, result: 'success' },
  })
  const many = await call('POST /jobs/job-00001/addtaskcollection', {
    body: JSON.stringify({
      value: [
        { id: 't2', commandLine: 'a' },
        { id: 't1', commandLine: 'b' },
      ],
    }),
  })
  t.equal(many.status, 200)
  t.match(many.json()['value'], [
    { status: 'success', taskId: 't2', location: `${jobUrl}/tasks/t2` },
    { status: 'clienterror', taskId: 't1', error: { code: 'TaskExists' } },
  ])
  const ids = (await call('GET /jobs/job-00001/tasks')).json()['value'].map(({ id }: { id: string }) => id)
  t.same(ids, ['task-1', 'task-2', 'task-3', 't1', 't2'])
  t.match((await call('GET /jobs/job-00001/taskcounts')).json(), { taskCounts: { completed: 5, failed: 0 } })

  const terminated = await call('POST /jobs/job-00001/tasks/t1/terminate', {
    headers: { 'content-length': '0' },
  })
  t.same([terminated.status, terminated.headers['dataserviceid']], [204, `${jobUrl}/tasks/t1`])
  t.equal((await call('DELETE /jobs/job-00001/tasks/t1')).status, 200)
  t.equal((await call('GET /jobs/job-00001/tasks/t1')).json()['code'], 'TaskNotFound')
})

t.test('files: listed, headed, read whole and in part, a slash apart from a backslash', async t => {
  const { batch, call } = await openAccount(t)
  const files = '/jobs/job-00001/tasks/task-1/files'
  const names = async (query: string) =>
    (await call(`GET ${files}${query}`)).json()['value'].map(({ name }: { name: string }) => name)
  t.same(await names(''), ['stdout.txt', 'stderr.txt', 'wd', 'wd\\output.txt'])
  t.ok((await names('?recursive=true')).includes('wd/output.txt'))

  const slash = await call(`GET ${files}/wd%2Foutput.txt`)
  const backslash = await call(`GET ${files}/wd%5Coutput.txt`)
  t.match(slash.text, 'in the directory wd')
  t.match(backslash.text, 'a name with a backslash')
  t.equal((await call(`GET ${files}/wd/output.txt`)).status, 400, 'a bare slash ends the segment')
  t.equal(slash.headers['content-length'], undefined)
  t.equal(slash.headers['transfer-encoding'], 'chunked')

  const head = await call(`HEAD ${files}/wd%2Foutput.txt`)
  t.equal(head.status, 200)
  t.match(head.headers, {
    'content-length': String(slash.bytes.length),
    'content-type': 'application/octet-stream',
    'ocp-batch-file-isdirectory': 'False',
    'ocp-batch-file-mode': '0o100644',
    'ocp-batch-file-url': encodeURIComponent(`${batch.url}${files}/wd/output.txt`),
  })

  const part = await call(`GET ${files}/wd%2Foutput.txt`, { headers: { 'ocp-range': 'bytes=1-2' } })
  t.same([part.status, part.text, part.headers['content-range']], [200, slash.text.slice(1, 3), undefined])
  const tail = await call(`GET ${files}/wd%2Foutput.txt`, { headers: { 'ocp-range': 'bytes=10-' } })
  t.equal(tail.text, slash.text.slice(10))
  const beyond = await call(`GET ${files}/stderr.txt`, { headers: { 'ocp-range': 'bytes=5-9' } })
  t.same([beyond.status, beyond.json()['code']], [416, 'InvalidRange'])

  t.equal((await call(`HEAD ${files}/none`)).status, 404)
  t.equal((await call(`DELETE ${files}/stdout.txt`)).status, 200)
  t.equal((await call(`GET ${files}/stdout.txt`)).json()['code'], 'FileNotFound')
})

t.test('pools and nodes: listed, headed, resized, added, deleted', async t => {
  const { batch, call } = await openAccount(t)
  const ids = (await call('GET /pools')).json()['value'].map(({ id }: { id: string }) => id)
  t.same(ids, ['pool-1', 'pool-2'])
  t.equal((await call('HEAD /pools/pool-1')).status, 200)
  const missing = await call('HEAD /pools/none')
  t.same([missing.status, missing.text], [404, ''])

  const resized = await call('POST /pools/pool-1/resize', { body: '{"targetDedicatedNodes":9}' })
  t.same([resized.status, resized.headers['dataserviceid']], [202, `${batch.url}/pools/pool-1`])
  t.equal((await call('GET /pools/pool-1')).json()['targetDedicatedNodes'], 9)
  t.equal((await call('POST /pools/pool-1/stopresize', { headers: { 'content-length': '0' } })).status, 202)

  t.equal((await call('POST /pools', { body: '{"id":"p3","vmSize":"s"}' })).status, 201)
  t.equal((await call('POST /pools', { body: '{"id":"p3","vmSize":"s"}' })).json()['code'], 'PoolExists')
  t.equal((await call('PATCH /pools/p3', { body: '{"metadata":[]}' })).status, 200)
  t.equal((await call('DELETE /pools/p3')).status, 202)

  const [node] = (await call('GET /pools/pool-1/nodes')).json()['value']
  t.match((await call(`GET /pools/pool-1/nodes/${node.id}`)).json(), { id: node.id, state: 'idle' })
})

t.test('only a token for exactly this audience, signed here and in its time, is taken', async t => {
  const clock = new ManualClock()
  const { standin, batch, token, send } = await openAccount(t, { clock, tokenLifeSeconds: 60 })
  const refusal = async (authorization?: string) => {
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
    const answer = await send(`${batch.url}/jobs?${API_VERSION}`, { headers })
    t.equal(answer.status, 401)
    t.equal(answer.json()['code'], 'AuthenticationFailed')
    t.match(
      answer.headers['www-authenticate'],
      `authorization_uri="${standin.entra.url}/${standin.tenantId}/`,
    )
    const [{ key, value }] = answer.json()['values']
    t.equal(key, 'AuthenticationErrorDetail')
    return value
  }
  const wrongAudience = (audience: string) =>
    `The access token has been obtained from wrong audience or resource '${audience}'. It should exactly match ` +
    "(including forward slash) with one of the allowed audiences 'https://batch.core.windows.net/'"

  t.equal(await refusal(), 'The request has no Authorization header.')
  t.equal(
    await refusal('SharedKey acct:c2ln'),
    'The specified type of authentication SharedKey is not allowed for this account.',
  )
  t.match(await refusal('Bearer Bearer x'), 'not of the form')
  const good = await token(batch.scope)
  const [head, payload] = good.split('.')
  t.match(await refusal(`Bearer ${head}.${payload}.AAAA`), 'not signed')
  t.equal(
    await refusal(`Bearer ${await token('https://batch.core.windows.net/.default')}`),
    wrongAudience('https://batch.core.windows.net'),
  )
  t.equal(
    await refusal(`Bearer ${await token(standin.mlOnline.scope)}`),
    wrongAudience('https://ml.azure.com'),
  )
  t.equal(batch.counters.expiredTokens, 0)

  clock.moveWall(59_999)
  const headers = { authorization: `Bearer ${good}` }
  t.equal(
    (await send(`${batch.url}/jobs/job-00001?${API_VERSION}`, { headers })).status,
    200,
    'in its last moment',
  )
  clock.moveWall(1)
  t.match(await refusal(`Bearer ${good}`), 'expired at 2026-01-01T00:01:00.000Z')
  t.equal(batch.counters.expiredTokens, 1)
  t.equal(batch.counters.refusedTokens, 7)
})
