// `npm run show:aborts`: how long an upstream connection outlives a client that leaves, in each phase of a
// request through the built program.

import { once } from 'node:events'
import { connect } from 'node:net'
import { openRecorder, type Recorder, type Script } from '../test/helpers/recorder.ts'
import { openBuiltGateway } from './built-gateway.ts'

const ROUNDS = 50
const LIMIT_MS = 100

const PHASES: Record<
  string,
  { script: Script; answerAt: 'head' | 'body'; send: string; awaitBytes: boolean }
> = {
  'before headers': { script: () => {}, answerAt: 'body', send: 'GET PATH HTTP/1.1\r\n', awaitBytes: false },
  'mid-download': {
    script: socket => socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n${'x'.repeat(1000)}`),
    answerAt: 'body',
    send: 'GET PATH HTTP/1.1\r\n',
    awaitBytes: true,
  },
  'mid-upload': {
    script: () => {},
    answerAt: 'head',
    send: 'POST PATH HTTP/1.1\r\nContent-Length: 1000000\r\n',
    awaitBytes: false,
  },
}

const recorders: Recorder[] = []
for (const { script, answerAt } of Object.values(PHASES))
  recorders.push(await openRecorder(script, { answerAt }))
const gateway = await openBuiltGateway({}, async standin =>
  recorders
    .map(
      (recorder, i) =>
        `  - { path: /phase${i}, upstream: "${recorder.origin}", scope: "${standin.mlOnline.scope}", trustUpstream: true }\n`,
    )
    .join(''),
)
const port = Number(new URL(gateway.url).port)
let failed = false

for (const [i, [name, { send, awaitBytes }]] of Object.entries(PHASES).entries()) {
  const recorder = recorders[i]!
  const times: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const seen = recorder.requests.length
    const client = connect(port, '127.0.0.1')
    client.on('error', () => {})
    client.write(`${send.replace('PATH', `/phase${i}/x`)}Host: localhost:${port}\r\n\r\nsome bytes`)
    await recorder.until(() => recorder.requests.length > seen)
    if (awaitBytes) await once(client, 'readable')
    const left = performance.now()
    client.destroy()
    await recorder.until(() => recorder.sockets.size === 0)
    times.push(performance.now() - left)
  }
  times.sort((a, b) => a - b)
  const longest = times.at(-1)!
  failed ||= longest > LIMIT_MS
  console.log(
    `${longest <= LIMIT_MS ? 'ok  ' : 'FAIL'}  ${name.padEnd(15)} upstream gone after ${times[ROUNDS / 2]!.toFixed(1)} ms (median), ${longest.toFixed(1)} ms (longest of ${ROUNDS}, limit ${LIMIT_MS})`,
  )
}

const { code } = await gateway.close()
for (const recorder of recorders) await recorder.close()
console.log(`${code === 0 ? 'ok  ' : 'FAIL'}  the gateway then stopped by SIGTERM with exit ${code}`)
process.exitCode = failed || code !== 0 ? 1 : 0
