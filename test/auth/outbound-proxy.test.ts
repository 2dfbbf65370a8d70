// A process of its own: the library reads the proxy variables once, at its first use.
import { once } from 'node:events'
import { createServer } from 'node:http'
import net, { type AddressInfo } from 'node:net'
import t from 'tap'
import { type CredentialDeps, createCredential } from '../../src/auth/credentials.ts'
import { systemClock } from '../../src/clock.ts'
import { startStandin } from '../../src/standin/standin.ts'
import { failureOf } from '../helpers/fake-credential.ts'

const standin = await startStandin({ names: ['entra.test'] })
t.teardown(() => standin.close())

// Connects every name to this machine, as only a proxy can.
const tunnels: string[] = []
const proxy = createServer((request, response) => {
  tunnels.push(`${request.method} ${request.url}`)
  response.writeHead(502).end()
})
proxy.on('connect', (request, client) => {
  tunnels.push(request.url ?? '')
  const upstream = net.connect(Number(request.url?.split(':')[1]), '127.0.0.1', () => {
    client.write('HTTP/1.1 200 OK\r\n\r\n')
    upstream.pipe(client).pipe(upstream)
  })
  upstream.on('error', () => client.destroy())
  client.on('error', () => upstream.destroy())
})
proxy.listen(0, '127.0.0.1')
await once(proxy, 'listening')
t.teardown(() => proxy.close().closeAllConnections())

const proxyUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
Object.assign(process.env, { HTTPS_PROXY: proxyUrl, HTTP_PROXY: proxyUrl, NO_PROXY: '' })
process.env['AZURE_POD_IDENTITY_AUTHORITY_HOST'] = standin.imds.url

const deps: CredentialDeps = {
  env: { AZURE_CLIENT_SECRET: standin.clientSecret },
  readFile: async () => '',
  clock: systemClock,
  ca: [standin.caPem],
}
const config = {
  type: 'client-secret',
  tenantId: standin.tenantId,
  clientId: standin.clientId,
  authorityHost: `https://entra.test:${standin.entra.port}`,
} as const

t.test('Entra is reached through HTTPS_PROXY, and a private authority is trusted there, too', async t => {
  const { token } = await createCredential(config, deps).acquire(standin.batch.scope)
  t.not(token, '')
  t.ok(tunnels.includes(`entra.test:${standin.entra.port}`))
})

t.test('behind a proxy a certificate that is not trusted is still refused', async t => {
  const { ca: _, ...withoutCa } = deps
  const failure = await failureOf(createCredential(config, withoutCa).acquire(standin.batch.scope))
  t.match(failure, { kind: 'tls', message: /entra\.test/ })
})

t.test('a managed identity is never asked for through a proxy', async t => {
  tunnels.length = 0
  const { token } = await createCredential({ type: 'managed-identity' }, deps).acquire(standin.batch.scope)
  t.not(token, '')
  t.strictSame(tunnels, [])
})
