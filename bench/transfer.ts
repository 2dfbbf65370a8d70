// `npm run show:transfer`: one upload and one download of 1 GiB through the built program, with a reader
// of 50 MB/s on the far side. Prints the gateway's memory and the digests of both ends.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { request } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { patternBytes } from '../src/standin/scratch.ts'
import { openBuiltGateway } from './built-gateway.ts'

const GIB = 2 ** 30
const bytes = Number(process.argv[2] ?? GIB)
const BYTES_PER_SECOND = 50e6
const LIMIT_MIB = 96

// An upstream of our own that reads at this pace: the gateway must hold the client back.
let reader: Server | undefined
const gateway = await openBuiltGateway({}, async standin => {
  reader = createServer(await standin.certificates.issue(), async (incoming, outgoing) => {
    const hash = createHash('sha256')
    await pipeline(incoming, paced(), async source => {
      for await (const chunk of source) hash.update(chunk)
    })
    outgoing.end(hash.digest('hex'))
  }).listen(0, '127.0.0.1')
  await once(reader, 'listening')
  const { port } = reader.address() as AddressInfo
  return `  - { path: /reader, upstream: "https://localhost:${port}", scope: "${standin.mlOnline.scope}", trustUpstream: true }`
})
const { url } = gateway
let failed = false

const expected = createHash('sha256')
for await (const chunk of patternBytes(0, bytes)) expected.update(chunk)
const digest = expected.digest('hex')

// One small exchange first: what is loaded lazily counts as idle.
await (await fetch(`${url}/batch/~standin/echo?api-version=1`)).text()
const idle = gateway.rssMiB()

console.log(
  `idle RSS ${idle.toFixed(1)} MiB, ${(bytes / GIB).toFixed(2)} GiB each way, reader ${BYTES_PER_SECOND / 1e6} MB/s`,
)

await measure('download', async () => {
  const response = await send('GET', `/batch/~standin/bytes/${bytes}?api-version=1`)
  const hash = createHash('sha256')
  await pipeline(response, paced(), async source => {
    for await (const chunk of source) hash.update(chunk)
  })
  return hash.digest('hex')
})

await measure('upload', async () => {
  const response = await send('POST', '/reader', Readable.from(patternBytes(0, bytes)))
  const parts: Buffer[] = []
  for await (const chunk of response) parts.push(chunk as Buffer)
  return Buffer.concat(parts).toString()
})

await gateway.close()
reader?.close()
reader?.closeAllConnections()
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
    const outgoing = request(
      url + path,
      { method, headers: body ? { 'content-length': bytes } : {} },
      resolve,
    )
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
