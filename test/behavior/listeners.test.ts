// Where the gateway listens: both loopback families, TLS, a Unix socket.

import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest, type RequestOptions } from 'node:https'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { CertificateAuthority } from '../../src/standin/certificates.ts'
import { openGateway } from '../helpers/gateway.ts'
import { openRecorder } from '../helpers/recorder.ts'

function send(
  request: typeof httpRequest,
  options: RequestOptions,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    request({ ...options, agent: false }, response => {
      let body = ''
      response.on('data', chunk => {
        body += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode!, body }))
    })
      .on('error', reject)
      .end()
  })
}

const hasIpv6 = Object.values(networkInterfaces()).some(each =>
  each?.some(({ address }) => address === '::1'),
)

t.test(
  'localhost is 127.0.0.1 and ::1, on the same port',
  { skip: !hasIpv6 && 'this machine has no ::1' },
  async t => {
    const upstream = await openRecorder()
    t.teardown(() => upstream.close())
    const { gateway, port } = await openGateway(t, {
      routes: [{ upstream: upstream.origin }],
      listen: [{ kind: 'tcp', host: 'localhost', port: 0 }],
    })
    t.same([...gateway.listeners[0]!.addresses].sort(), [`127.0.0.1:${port}`, `[::1]:${port}`])
    for (const [host, name] of [
      ['127.0.0.1', `127.0.0.1:${port}`],
      ['::1', `[::1]:${port}`],
    ] as const) {
      t.match(await send(httpRequest, { host, port, headers: { host: name } }), { status: 200, body: 'ok' })
    }
  },
)

t.test('with a certificate it speaks TLS, and links say https', async t => {
  const authority = await CertificateAuthority.create()
  const { cert, key } = await authority.issue()
  const folder = t.testdir({})
  writeFileSync(`${folder}/cert.pem`, cert)
  writeFileSync(`${folder}/key.pem`, key)
  const upstream = await openRecorder(socket => {
    const body = JSON.stringify({ nextLink: `${upstream.origin}/jobs?page=2` })
    socket.write(
      `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
  })
  t.teardown(() => upstream.close())
  const { gateway, port } = await openGateway(t, {
    routes: [{ upstream: upstream.origin }],
    tls: { certFile: `${folder}/cert.pem`, keyFile: `${folder}/key.pem` },
  })
  t.match(gateway.url, /^https:/)
  const answer = await send(httpsRequest, {
    host: '127.0.0.1',
    servername: 'localhost',
    port,
    ca: authority.caPem,
    headers: { host: `localhost:${port}` },
  })
  t.equal(answer.status, 200)
  t.match(answer.body, `https://localhost:${port}/jobs?page=2`)
  await t.rejects(send(httpsRequest, { host: '127.0.0.1', port }), /self.signed|unable to/i)
})

t.test('a Unix socket is for this user alone', async t => {
  const upstream = await openRecorder()
  t.teardown(() => upstream.close())
  // Not in the test's own folder: a socket's path may have 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), 'entra-proxy-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'gateway.sock')
  await openGateway(t, { routes: [{ upstream: upstream.origin }], listen: [{ kind: 'unix', path }] })
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.match(await send(httpRequest, { socketPath: path, headers: { host: 'localhost' } }), { status: 200 })
  t.match(await send(httpRequest, { socketPath: path, headers: { host: 'evil.example' } }), { status: 421 })
})
