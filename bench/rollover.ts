// `npm run show:rollover`: constant load for a minute while tokens live 4 seconds. Prints failed requests,
// expired tokens seen upstream, token requests per rollover, and waiting times.

import { Agent, request } from 'node:http'
import { openBuiltGateway } from './built-gateway.ts'

const seconds = Number(process.argv[2] ?? 60)
const TOKEN_LIFE_S = 4
const REQUESTS_PER_SECOND = 200

const gateway = await openBuiltGateway({ tokenLifeSeconds: TOKEN_LIFE_S, requestLogLimit: 10 })
const { standin, url } = gateway
const agent = new Agent({ keepAlive: true, maxSockets: 32 })
const times: number[] = []
const failures = new Map<string, number>()
let sent = 0

const before = standin.entra.counters.tokensIssued
const started = performance.now()
const done: Promise<void>[] = []
await new Promise<void>(resolve => {
  const timer = setInterval(() => {
    const elapsed = performance.now() - started
    while (sent < (Math.min(elapsed, seconds * 1000) / 1000) * REQUESTS_PER_SECOND) {
      sent++
      done.push(exchange(sent % 2 === 0 ? '/batch/jobs/job-00001?api-version=2024-07-01.20.0' : '/ml/'))
    }
    if (elapsed < seconds * 1000) return
    clearInterval(timer)
    resolve()
  }, 5)
})
await Promise.all(done)

const issued = standin.entra.counters.tokensIssued - before
const expired = standin.batch.counters.expiredTokens + standin.mlOnline.counters.expiredTokens
const failed = [...failures.values()].reduce((sum, count) => sum + count, 0)
times.sort((a, b) => a - b)
const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))]!.toFixed(1)
await gateway.close()

// Two scopes; a token is renewed at half its life at the latest.
const rollovers = issued
const most = 2 * Math.ceil(seconds / (TOKEN_LIFE_S / 2)) + 2
console.log(`${sent} requests in ${seconds} s, token life ${TOKEN_LIFE_S} s, two scopes`)
console.log(`failed ${failed}${failed ? ` ${JSON.stringify([...failures])}` : ''}`)
console.log(`expired tokens upstream ${expired}`)
console.log(`tokens issued ${rollovers} (one per renewal; renewing at half life, at most ${most})`)
console.log(`waiting p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${times.at(-1)!.toFixed(1)} ms`)
process.exitCode = failed === 0 && expired === 0 && issued <= most ? 0 : 1

function exchange(path: string): Promise<void> {
  const begun = performance.now()
  return new Promise(resolve => {
    const end = (outcome: string) => {
      times.push(performance.now() - begun)
      if (outcome !== '200') failures.set(outcome, (failures.get(outcome) ?? 0) + 1)
      resolve()
    }
    request(url + path, { agent }, response => {
      response.resume()
      response.on('end', () => end(String(response.statusCode)))
      response.on('error', error => end(error.message))
    })
      .on('error', error => end(error.message))
      .end()
  })
}
