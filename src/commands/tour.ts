// The tour of `demo --once`: what a newcomer would do by hand, each step with its result, and a look at
// what the stand-in saw. A mismatch is a failed step.

import type { Gateway } from '../gateway.ts'
import type { Standin } from '../standin/standin.ts'
import type { Io } from './io.ts'

interface Step {
  readonly title: string
  /** Returns what it saw; throws a Mismatch. */
  readonly run: () => Promise<string>
}

class Mismatch extends Error {}

/** Prints a line per step; true when every one went as it should. */
export async function makeTour(gateway: Gateway, standin: Standin, io: Io): Promise<boolean> {
  const mark = (good: boolean) => {
    const text = good ? 'ok  ' : 'FAIL'
    return io.stdoutColor ? `\x1b[${good ? 32 : 31}m${text}\x1b[0m` : text
  }
  let failed = 0
  io.out('')
  for (const route of gateway.config.routes) {
    const path = route.path
    io.out(
      `  ${gateway.url}${path}  ->  ${route.upstream.origin}${route.upstream.basePath}  (stand-in, ${route.preset})`,
    )
  }
  io.out('')
  const steps = [...batchSteps(gateway, standin), ...mlSteps(gateway), ...tokenSteps(standin)]
  for (const step of steps) {
    try {
      io.out(`  ${mark(true)}  ${step.title.padEnd(46)} ${await step.run()}`)
    } catch (error) {
      failed++
      const seen = error instanceof Mismatch ? error.message : `${error}`
      io.out(`  ${mark(false)}  ${step.title.padEnd(46)} ${seen}`)
    }
  }
  io.out('')
  io.out(`  ${steps.length - failed} of ${steps.length} steps as they should be`)
  io.out('')
  return failed === 0
}

function batchSteps(gateway: Gateway, standin: Standin): Step[] {
  const base = `${gateway.url}/batch`
  const json = { 'content-type': 'application/json; odata=minimalmetadata' }
  return [
    {
      title: 'list every job, page by page',
      async run() {
        let url: string | undefined = `${base}/jobs`
        let jobs = 0
        let pages = 0
        while (url !== undefined) {
          expect(url.startsWith(`${gateway.url}/`), `a paging link leads away from the gateway: ${url}`)
          const page: { value: unknown[]; 'odata.nextLink'?: string } = JSON.parse(
            await text(await call(url), 200),
          )
          jobs += page.value.length
          pages++
          url = page['odata.nextLink']
        }
        expect(jobs === 2500 && pages === 3, `${jobs} jobs on ${pages} pages, not 2500 on 3`)
        return `${jobs} jobs on ${pages} pages, each link led back to the gateway`
      },
    },
    {
      title: 'submit a job',
      async run() {
        const body = JSON.stringify({ id: 'tour', poolInfo: { poolId: 'pool-1' } })
        const response = await call(`${base}/jobs`, { method: 'POST', headers: json, body })
        await text(response, 201)
        const location = response.headers.get('location')
        expect(location === `${base}/jobs/tour`, `Location is ${location}`)
        return `201, Location ${location}`
      },
    },
    {
      title: 'submit a task',
      async run() {
        const body = JSON.stringify({ id: 't1', commandLine: 'echo hello' })
        const response = await call(`${base}/jobs/tour/tasks`, { method: 'POST', headers: json, body })
        await text(response, 201)
        return '201'
      },
    },
    {
      title: "download the task's stdout",
      async run() {
        const file = await text(await call(`${base}/jobs/tour/tasks/t1/files/stdout.txt`), 200)
        expect(file.length > 0, 'the file is empty')
        return JSON.stringify(file.slice(0, 40))
      },
    },
    {
      title: 'delete the job',
      async run() {
        await text(await call(`${base}/jobs/tour`, { method: 'DELETE', headers: json }), 202)
        return '202'
      },
    },
    {
      title: "the client's own Authorization stays behind",
      async run() {
        const headers = { authorization: 'SharedKey acct:AAAA' }
        await text(await call(`${base}/pools`, { headers }), 200)
        const seen = standin.batch.requests.at(-1)
        const schemes = standin.batch.requests.map(request => request.headers['authorization'] ?? '')
        expect(!schemes.some(scheme => /sharedkey/i.test(scheme)), 'SharedKey arrived')
        expect(seen?.token?.aud === standin.batch.audience, `audience ${seen?.token?.aud}`)
        return `Batch saw a token for ${seen?.token?.aud}`
      },
    },
  ]
}

function mlSteps(gateway: Gateway): Step[] {
  const json = { 'content-type': 'application/json' }
  const body = JSON.stringify({ data: [[1, 2, 3]] })
  return [
    {
      title: 'score',
      async run() {
        const answer = await text(
          await call(`${gateway.url}/score`, { method: 'POST', headers: json, body }),
          200,
        )
        expect(answer.trim() === '[6]', `the answer is ${answer}`)
        return answer.trim()
      },
    },
    {
      title: 'score as a stream',
      async run() {
        const headers = { ...json, accept: 'text/event-stream' }
        const response = await call(`${gateway.url}/score`, { method: 'POST', headers, body })
        expect(response.status === 200, `status ${response.status}`)
        let chunks = 0
        let events = 0
        for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
          chunks++
          events += Buffer.from(chunk).toString().split('\n\n').length - 1
        }
        expect(events === 5, `${events} events`)
        expect(chunks > 1, 'all events came at once')
        return `${events} events, one by one`
      },
    },
    {
      title: 'start a job of the batch endpoint and poll it',
      async run() {
        const started = await text(
          await call(`${gateway.url}/nightly`, {
            method: 'POST',
            headers: json,
            body: '{"properties":{"InputData":{}}}',
          }),
          201,
        )
        const { name } = JSON.parse(started) as { name: string }
        const states: string[] = []
        while (states.at(-1) !== 'Completed') {
          expect(states.length < 10, `still ${states.at(-1)} after ${states.length} polls`)
          const job = JSON.parse(await text(await call(`${gateway.url}/nightly/${name}`), 200)) as {
            properties: { status: string }
          }
          states.push(job.properties.status)
        }
        return states.join(', ')
      },
    },
    {
      title: 'a wrong path gets help',
      async run() {
        const response = await call(`${gateway.url}/btach/jobs`)
        const problem = JSON.parse(await text(response, 404)) as { code: string; remedy: string }
        expect(problem.code === 'no_route', `code ${problem.code}`)
        return `404 ${problem.code}: ${problem.remedy}`
      },
    },
  ]
}

function tokenSteps(standin: Standin): Step[] {
  return [
    {
      title: 'one token per scope and identity',
      async run() {
        const counts = { ...standin.imds.counters.tokenRequests, ...standin.entra.counters.tokenRequests }
        const wrong = Object.entries(counts).filter(([, count]) => count !== 1)
        expect(Object.keys(counts).length === 3, `scopes asked for: ${Object.keys(counts).join(', ')}`)
        expect(wrong.length === 0, `${wrong.map(([scope, count]) => `${scope}: ${count}`).join(', ')}`)
        return `${Object.keys(counts).length} token requests for all of the above`
      },
    },
  ]
}

function call(url: string, init?: RequestInit): Promise<Response> {
  return fetch(url, { redirect: 'manual', ...init })
}

async function text(response: Response, status: number): Promise<string> {
  const body = await response.text()
  expect(response.status === status, `status ${response.status} instead of ${status}: ${body.slice(0, 300)}`)
  return body
}

function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new Mismatch(otherwise)
}
