import t from 'tap'
import { ManualClock } from '../helpers/manual-clock.ts'
import { openStandin, receive } from '../helpers/standin-client.ts'

t.test('the online endpoint scores, echoes the deployment, and shows its other paths', async t => {
  const { standin, send, bearer } = await openStandin(t)
  const { mlOnline } = standin
  const headers = await bearer(mlOnline.scope)
  const score = (more: Record<string, string>) =>
    send(`${mlOnline.url}/score`, {
      method: 'POST',
      headers: { ...headers, ...more },
      body: '{"data":[[1,2,3],[4]]}',
    })

  const answer = await score({ 'azureml-model-deployment': 'green', 'x-request-id': 'mine' })
  t.same([answer.status, answer.json()], [200, [6, 4]])
  t.match(answer.headers, {
    'azureml-model-deployment': 'green',
    'x-request-id': 'mine',
    'x-ms-server-version': /^azmlinfsrv\//,
    'x-content-type-options': 'nosniff, nosniff',
  })
  t.equal((await score({})).headers['azureml-model-deployment'], 'blue', 'the default deployment')
  t.equal((await send(`${mlOnline.url}/`, { headers })).text, 'Healthy')
  t.equal((await send(`${mlOnline.url}/swagger.json`, { headers })).json()['swagger'], '2.0')
  t.equal((await send(`${mlOnline.url}/none`, { headers })).status, 404)
})

t.test(
  'a streamed score comes event by event on the stand-in’s clock, then the connection closes',
  async t => {
    const clock = new ManualClock()
    const { standin, open, bearer } = await openStandin(t, { clock, sse: { events: 3, intervalMs: 50 } })
    const { mlOnline } = standin
    const headers = { ...(await bearer(mlOnline.scope)), accept: 'text/event-stream' }
    const message = await open(`${mlOnline.url}/score`, { method: 'POST', headers, body: '{"data":[]}' })
    t.equal(message.headers['content-type'], 'text/event-stream; charset=utf-8')
    t.equal(message.headers.connection, 'close')
    t.equal(message.headers['content-length'], undefined)

    const events: string[] = []
    for await (const chunk of message) {
      events.push(String(chunk))
      if (events.length === 3) continue
      // The next event waits for the clock: it is armed once the log has counted this one's bytes.
      await mlOnline.waitUntil(() => clock.pending > 0)
      await clock.advance(50)
    }
    t.same(
      events,
      [1, 2, 3].map(index => `data: {"answer":"part ${index} of 3"}\n\n`),
    )
  },
)

t.test('with no interval a stream needs no clock', async t => {
  const { standin, open, bearer } = await openStandin(t, {
    clock: new ManualClock(),
    sse: { events: 100, intervalMs: 0 },
  })
  const headers = { ...(await bearer(standin.mlOnline.scope)), accept: 'text/event-stream' }
  const answer = await receive(
    await open(`${standin.mlOnline.url}/score`, { method: 'POST', headers, body: '{}' }),
  )
  t.equal(answer.text.match(/^data: /gm)?.length, 100)
})

t.test('errors have the front door’s shapes: text, and 424 for what the container answered', async t => {
  const { standin, send, bearer } = await openStandin(t)
  const { mlOnline } = standin
  const url = `${mlOnline.url}/score`
  const denied = await send(url, { method: 'POST' })
  t.same([denied.status, denied.text], [401, 'key_auth_access_denied'])
  const doubled = await send(url, { method: 'POST', headers: { authorization: 'Bearer Bearer x' } })
  t.same([doubled.status, doubled.text], [401, 'key_auth_bad_header_forbidden'])
  const wrong = await send(url, { method: 'POST', headers: await bearer(standin.batch.scope) })
  t.equal(wrong.status, 401)

  const headers = await bearer(mlOnline.scope)
  const notJson = await send(url, { method: 'POST', headers, body: 'text' })
  t.equal(notJson.status, 424)
  t.match(notJson.headers, {
    'ms-azureml-model-error-statuscode': '400',
    'ms-azureml-model-error-reason': 'model_error',
  })

  const ordered = async (status: number, retryAfter?: number) => {
    standin.faults.mlOnline.next({
      kind: 'status',
      status,
      ...(retryAfter === undefined ? {} : { retryAfter }),
    })
    return send(url, { method: 'POST', headers, body: '{}' })
  }
  t.match((await ordered(424)).headers, { 'ms-azureml-model-error-statuscode': '500' })
  const limited = await ordered(429, 3)
  t.same([limited.status, limited.headers['retry-after']], [429, '3'])
  t.match((await ordered(403)).text, /^Microsoft Entra Token denied by policy/)
  t.match((await ordered(401)).text, 'key_auth_access_denied')
})

t.test('a batch job is made with a location at another host, and goes its way as it is polled', async t => {
  const { standin, send, bearer } = await openStandin(t)
  const { mlBatch } = standin
  const headers = { ...(await bearer(mlBatch.scope)), 'azureml-model-deployment': 'default' }
  const body = '{"properties":{"InputData":{"in":{"JobInputType":"UriFolder","Uri":"https://data.test/x"}}}}'
  const made = await send(`${mlBatch.url}/jobs`, { method: 'POST', headers, body })
  t.equal(made.status, 201)
  const { name, id, properties } = made.json()
  t.equal(
    made.headers['location'],
    `https://westus2.api.azureml.ms/mferp/managementfrontend${id}?api-version=2020-09-01-dataplanepreview`,
  )
  t.match(properties, { status: 'Preparing', inputData: { in: { Uri: 'https://data.test/x' } } })
  t.match(id, new RegExp(`/batchEndpoints/heart/deployments/default/jobs/${name}$`))

  const states: string[] = []
  for (let poll = 0; poll < 4; poll += 1) {
    states.push((await send(`${mlBatch.url}/jobs/${name}`, { headers })).json()['properties'].status)
  }
  t.same(states, ['Preparing', 'Running', 'Completed', 'Completed'])
  t.equal((await send(`${mlBatch.url}/jobs/other`, { headers })).status, 404)
  t.equal(
    (await send(`${mlBatch.url}/jobs`, { method: 'POST', headers, body: '{}' })).json()['error'].code,
    'BadArgument',
  )
})

t.test('a management operation names polling URLs of its own origin in headers and body', async t => {
  const { standin, send, bearer } = await openStandin(t)
  const { mlBatch } = standin
  const headers = await bearer(mlBatch.scope)
  const made = await send(`${mlBatch.url}/subscriptions/s/deployments/d`, {
    method: 'PUT',
    headers,
    body: '{}',
  })
  t.equal(made.status, 201)
  const operation = made.headers['azure-asyncoperation']!
  t.equal(new URL(operation).origin, mlBatch.url)
  t.equal(new URL(made.headers['location']!).origin, mlBatch.url)
  t.equal(made.json()['properties'].properties.AzureAsyncOperationUri, operation)
  t.equal((await send(operation, { headers })).json()['status'], 'InProgress')
  t.equal((await send(operation, { headers })).json()['status'], 'Succeeded')
})
