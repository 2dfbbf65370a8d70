// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the file has a syntax like that

import t from 'tap'
import { describeConfig, loadConfig } from '../../src/config/load.ts'

const FILE = `
listen: [localhost:0, unix:/run/a.sock]
routes:
  - path: /batch
    upstream: https://contoso.westeurope.batch.azure.com/base
    credential: { type: client-secret, tenantId: t, clientId: c, clientSecretFile: /run/secret }
    query: { code: "\${file:/run/canary}" }
    requestHeaders: { set: { x-key: "\${file:/run/canary}" } }
    responseHeaders: { set: { x-note: "\${file:/run/canary}" } }
security: { clientKey: { file: /run/canary } }
admin: { listen: off }
`

function load() {
  return loadConfig({
    flags: {},
    env: {},
    cwd: '/w',
    readFile: path => {
      if (path === '/w/entra-proxy.yaml') return FILE
      if (path === '/run/canary') return 'canary-5e1f0c7d\n'
      throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
    },
  })
}

t.test('says what runs, in the words of the file', async t => {
  t.match(describeConfig(load()), {
    file: '/w/entra-proxy.yaml',
    listen: ['localhost:0', 'unix:/run/a.sock'],
    admin: 'off',
    routes: [
      {
        name: 'batch',
        path: '/batch',
        upstream: 'https://contoso.westeurope.batch.azure.com/base',
        preset: 'batch',
        scope: 'https://batch.core.windows.net//.default',
        credential: { type: 'client-secret', clientId: 'c' },
        query: ['code'],
        requestHeaders: { set: ['x-key'] },
        timeouts: { connect: '10s', response: '1m', idle: '2m' },
        limits: { maxBody: '10GiB' },
      },
    ],
    token: { refreshBefore: '10m', timeout: '15s' },
    grace: '25s',
  })
})

t.test('holds nothing that could be a secret, and is plain JSON', async t => {
  const config = load()
  t.equal(config.routes[0]?.query['code'], 'canary-5e1f0c7d', 'the route has it')
  const text = JSON.stringify(describeConfig(config))
  t.notMatch(text, /canary/)
  t.strictSame(JSON.parse(text), describeConfig(config))
})
