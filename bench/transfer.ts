// `npm run show:transfer`: one upload and one download of 1 GiB through the built program, with a reader
// of 50 MB/s on the far side. Prints the gateway's memory and the digests of both ends.

import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { Readable, Transform } from 'node:stream'
import { patternBytes } from '../src/standin/scratch.ts'
import { openBuiltGateway } from './built-gateway.ts'

const GIB = 2 ** 30
const bytes = Number(process.argv[2] ?? GIB)
const BYTES_PER_SECOND = 50e6
const LIMIT_MIB = 96

const gateway = await openBuiltGateway()
const { standin, url } = gateway
let failed = false

const expected = createHash('sha256')
for await (const chunk of patternBytes(0, bytes)) expected.update(chunk)
const digest = expected.digest('hex')

// One small exchange first: what is loaded lazily counts as idle.
await (await fetch(`${url}/batch/~standin/echo?api-version=1`)).text()
const idle = gateway.rssMiB()

console.log(`idle RSS ${idle.toFixed(1)} MiB, ${(bytes / GIB).toFixed(2)} GiB each way, reader ${BYTES_PER_SECOND / 1e6} MB/s`)

await measure('download', async () => {
  const response = await send('GET', `/batch/~standin/bytes/${bytes}?api-version=1`)
  const hash = createHash('sha256')
  await pipeline(response, paced(), async source => {
    for await (const chunk of source) hash.update(chunk)
  })
  return hash.digest('hex')
})

await measure('upload', async () => {
  // The stand-in reads at this pace: the gateway must hold the client back.
  const response = await send('POST', '/batch/~standin/sink?api-version=1', Readable.from(patternBytes(0, bytes)).pipe(paced()))
  const parts: Buffer[] = []
  for await (const chunk of response) parts.push(chunk as Buffer)
  return (JSON.parse(Buffer.concat(parts).toString()) as { sha256: string }).sha256
})

await gateway.close()
void standin
process.exitCode = failed ? 1 : 0

async function measure(name: string, run: () => Promise<string>): Promise<void> {
  const peak = gateway.watchRss()
  const started = performance.now()
  const got = await run()
  const seconds = (performance.now() - started) / 1000
  const growth = peak.stop() - idle
  const good = got === digest && growth < LIMIT_MIB
  failed ||= !good
  console.log(
    `${good ? 'ok  ' : 'FAIL'}  ${name.padEnd(9)} ${seconds.toFixed(1)} s  RSS growth ${growth.toFixed(1)} MiB (limit ${LIMIT_MIB})  SHA-256 ${got === digest ? 'equal' : 'DIFFERENT'}`,
  )
}

function send(method: string, path: string, body?: Readable): Promise<Readable> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url + path, { method, headers: body ? { 'content-length': bytes } : {} }, resolve)
    outgoing.on('error', reject)
    if (body) body.pipe(outgoing)
    else outgoing.end()
  })
}

/** Lets BYTES_PER_SECOND through. */
function paced(): Transform {
  const start = performance.now()
  let passed = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      passed += chunk.length
      const ahead = (passed / BYTES_PER_SECOND) * 1000 - (performance.now() - start)
      if (ahead < 5) done(null, chunk)
      else setTimeout(() => done(null, chunk), ahead)
    },
  })
}
