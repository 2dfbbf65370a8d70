// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the file has a syntax like that

import { join } from 'node:path'
import t from 'tap'
import type { Config } from '../../src/config/config.ts'
import { type Environment, type RunFlags, resolveFlags } from '../../src/config/flags.ts'
import { examineConfig, loadConfig } from '../../src/config/load.ts'
import { ConfigError } from '../../src/config/problems.ts'

const BATCH = 'https://contoso.westeurope.batch.azure.com'
const ML = 'https://fraud.westeurope.inference.ml.azure.com/score'

interface Scene {
  readonly flags?: RunFlags
  readonly env?: Environment
  readonly files?: Readonly<Record<string, string>>
  /** The text of /w/entra-proxy.yaml. */
  readonly file?: string
}

function input({ flags = {}, env = {}, files = {}, file }: Scene) {
  const all: Readonly<Record<string, string>> = {
    ...files,
    ...(file !== undefined && { '/w/entra-proxy.yaml': file }),
  }
  const readFile = (path: string) => {
    if (Object.hasOwn(all, path)) return all[path]!
    throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
  }
  return { flags, env, cwd: '/w', readFile }
}

function load(scene: Scene): Config {
  return loadConfig(input(scene))
}

function complaints(scene: Scene): string[] {
  return examineConfig(input(scene)).problems.map(({ path, message }) => `${path} ${message}`)
}

t.test('a URL is a whole configuration', async t => {
  t.match(load({ flags: { upstream: BATCH } }), {
    file: undefined,
    listen: [{ kind: 'tcp', host: 'localhost', port: 8656 }],
    routes: [
      {
        name: 'default',
        path: '/',
        upstream: { origin: BATCH, basePath: '' },
        preset: 'batch',
        scope: 'https://batch.core.windows.net//.default',
        audience: 'https://batch.core.windows.net/',
        credential: { type: 'auto' },
        query: {},
        requestHeaders: { set: {}, remove: [] },
        responseHeaders: { set: {}, remove: [] },
        rewriteLinks: 'headers+json',
        trustUpstream: false,
        timeouts: { connectMs: 10_000, responseMs: 60_000, idleMs: 120_000 },
        limits: { maxConcurrent: 256, maxQueue: 256, queueTimeoutMs: 10_000, maxBodyBytes: 10 * 2 ** 30 },
      },
    ],
    token: { refreshBeforeMs: 600_000, timeoutMs: 15_000 },
    outbound: {},
    tls: undefined,
    security: {
      allowedHosts: [],
      allowedOrigins: [],
      forwardedRequests: 'reject',
      clientKey: undefined,
      allowRemote: false,
    },
    admin: { listen: { kind: 'tcp', host: 'localhost', port: 8657 }, metrics: true },
    log: { level: 'info', format: 'auto', access: 'all' },
    shutdown: { graceMs: 25_000 },
    requireToken: false,
    warnings: [],
  })
})

t.test('the short form is one route at /', async t => {
  t.match(load({ file: `upstream: ${BATCH}` }).routes, [{ name: 'default', path: '/', preset: 'batch' }])
})

t.test('everything in a file arrives in units of the code', async t => {
  const file = `
listen: [localhost:0, unix:/run/a.sock]
credential: { type: managed-identity, clientId: abc }
routes:
  - name: jobs
    path: /batch
    listen: localhost:8660
    upstream: ${BATCH}
    methods: [GET]
    paths: [/jobs/**]
    query: { api-version: 2024-07-01.20.0 }
    requestHeaders: { set: { X-Team: a b }, remove: [X-Debug] }
    responseHeaders: { remove: [Server] }
    rewriteLinks: none
    timeouts: { connect: 1s, response: 2m, idle: 1h }
    limits: { maxConcurrent: 1, maxQueue: 0, queueTimeout: 500ms, maxBody: 1MiB }
  - path: /score
    upstream: ${ML}
    credential: azure-cli
outbound: { caFile: ca.pem }
tls: { certFile: tls/crt.pem, keyFile: /run/key.pem }
security:
  allowedHosts: [Gateway.Internal, "[::1]:80"]
  allowedOrigins: ["HTTP://LocalHost:3000"]
  forwardedRequests: strip
  clientKey: { file: key }
admin: { listen: off, metrics: false }
`
  t.match(load({ file }), {
    file: '/w/entra-proxy.yaml',
    listen: [
      { kind: 'tcp', host: 'localhost', port: 0 },
      { kind: 'unix', path: '/run/a.sock' },
    ],
    routes: [
      {
        name: 'jobs',
        listen: { kind: 'tcp', host: 'localhost', port: 8660 },
        credential: { type: 'managed-identity', clientId: 'abc' },
        methods: ['GET'],
        paths: ['/jobs/**'],
        query: { 'api-version': '2024-07-01.20.0' },
        requestHeaders: { set: { 'X-Team': 'a b' }, remove: ['x-debug'] },
        responseHeaders: { set: {}, remove: ['server'] },
        rewriteLinks: 'none',
        timeouts: { connectMs: 1_000, responseMs: 120_000, idleMs: 3_600_000 },
        limits: { maxConcurrent: 1, maxQueue: 0, queueTimeoutMs: 500, maxBodyBytes: 2 ** 20 },
      },
      {
        name: 'score',
        upstream: { basePath: '/score' },
        preset: 'ml-online',
        rewriteLinks: 'headers',
        timeouts: { responseMs: 180_000 },
        credential: { type: 'azure-cli' },
      },
    ],
    outbound: { caFile: '/w/ca.pem' },
    tls: { certFile: '/w/tls/crt.pem', keyFile: '/run/key.pem' },
    security: {
      allowedHosts: ['gateway.internal', '[::1]:80'],
      allowedOrigins: ['http://localhost:3000'],
      forwardedRequests: 'strip',
      clientKey: { file: '/w/key' },
    },
    admin: { listen: undefined, metrics: false },
  })
})

t.test('file names start from the directory of the file that has them', async t => {
  const config = load({
    flags: { config: 'conf/a.yaml' },
    files: {
      '/w/conf/a.yaml': `upstream: ${BATCH}\ncredential: { type: static, tokenFile: "\${file:name}" }`,
      '/w/conf/name': 'token.txt\n',
    },
  })
  t.match(config, { file: '/w/conf/a.yaml', routes: [{ credential: { tokenFile: '/w/conf/token.txt' } }] })
})

t.test('a name is made from the path', async t => {
  const table: [string, string][] = [
    ['/', 'default'],
    ['/batch', 'batch'],
    ['/a/b', 'a-b'],
    ['/Batch_1', 'batch-1'],
    ['/2024', 'r-2024'],
    ['/~', 'default'],
    [`/${'x'.repeat(60)}`, 'x'.repeat(40)],
    [`/${'x'.repeat(39)}/y`, 'x'.repeat(39)],
  ]
  for (const [path, name] of table) {
    t.equal(load({ flags: { route: [`${path}=${BATCH}`] } }).routes[0]?.name, name, path)
  }
})

t.test('an audience is known only for the scope of the preset', async t => {
  const [route] = load({ file: `routes: [{ upstream: "${BATCH}", scope: api://x/.default }]` }).routes
  t.match(route, { preset: 'batch', scope: 'api://x/.default' })
  t.equal(route?.audience, undefined)
})

t.test('a trusted upstream may get the token of a known service', async t => {
  const upstreams = ['http://127.0.0.1:9000', 'https://proxy.contoso.example', `${BATCH}:8443`]
  for (const upstream of upstreams) {
    const file = `routes: [{ upstream: "${upstream}", preset: batch, trustUpstream: true }]`
    t.match(
      load({ file }).routes,
      [{ preset: 'batch', scope: 'https://batch.core.windows.net//.default' }],
      upstream,
    )
    t.match(
      complaints({ file: file.replace('true', 'false') }),
      [/^routes\[0\]\.(preset|upstream) /],
      upstream,
    )
  }
})

t.test('http is for loopback only', async t => {
  for (const host of ['localhost', '127.0.0.1', '127.1.2.3', '[::1]']) {
    t.match(
      load({ flags: { upstream: `http://${host}:9000`, scope: 'api://x/.default' } }).routes,
      [{ scope: 'api://x/.default' }],
      host,
    )
  }
  for (const host of [
    '10.0.0.1',
    '169.254.169.254',
    'localhost.evil.example',
    '[::ffff:127.0.0.1]',
    '0.0.0.0',
  ]) {
    t.match(
      complaints({ flags: { upstream: `http://${host}:9000`, scope: 'api://x/.default' } }),
      [/^URL http would send the token/],
      host,
    )
  }
})

t.test('takes the first file that is there', async t => {
  const places = [
    '/w/entra-proxy.yaml',
    '/w/entra-proxy.yml',
    '/w/entra-proxy.json',
    '/x/entra-proxy/entra-proxy.yaml',
    '/etc/entra-proxy/entra-proxy.yaml',
  ]
  for (const [i, place] of places.entries()) {
    const files = Object.fromEntries(places.slice(i).map(path => [path, JSON.stringify({ upstream: BATCH })]))
    t.equal(load({ files, env: { XDG_CONFIG_HOME: '/x' } }).file, place)
  }
  const home = { '/home/u/.config/entra-proxy/entra-proxy.yaml': `upstream: ${BATCH}` }
  t.equal(
    load({ files: home, env: { HOME: '/home/u' } }).file,
    join('/home/u/.config/entra-proxy/entra-proxy.yaml'),
  )
})

t.test('a file that is named wins, the flag before the variable', async t => {
  const files = {
    '/w/entra-proxy.yaml': 'broken: [',
    '/a.yaml': `upstream: ${BATCH}`,
    '/w/b.yaml': `upstream: ${ML}`,
  }
  t.equal(load({ files, flags: { config: '/a.yaml' } }).file, '/a.yaml')
  t.equal(load({ files, env: { ENTRA_PROXY_CONFIG: 'b.yaml' } }).file, '/w/b.yaml')
  t.equal(
    load({ files, flags: { config: '/a.yaml' }, env: { ENTRA_PROXY_CONFIG: 'b.yaml' } }).file,
    '/a.yaml',
  )
})

t.test('a named file that cannot be read is an error of the flag that named it', async t => {
  t.match(complaints({ flags: { config: 'no.yaml' } }), [/^--config no\.yaml does not exist; check the path/])
  t.match(complaints({ env: { ENTRA_PROXY_CONFIG: 'no.yaml' } }), [
    /^ENTRA_PROXY_CONFIG no\.yaml does not exist/,
  ])
})

t.test('a usual file that is there and cannot be read is an error too', async t => {
  const readFile = (path: string): string => {
    throw Object.assign(new Error(), { code: path.startsWith('/etc') ? 'ENOENT' : 'EACCES' })
  }
  const { problems } = examineConfig({ flags: { upstream: BATCH }, env: {}, cwd: '/w', readFile })
  t.match(problems, [{ message: /cannot read \/w\/entra-proxy\.yaml \(EACCES\)/ }])
})

t.test('says so when there is nothing to run', async t => {
  const { problems, unconfigured } = examineConfig(input({}))
  t.equal(unconfigured, true)
  t.match(problems, [{ message: /there is no route; give an upstream/ }])
  t.equal(
    examineConfig(input({ file: 'version: 1' })).unconfigured,
    false,
    'a file without routes is a mistake',
  )
  t.equal(examineConfig(input({ flags: { config: 'no' } })).unconfigured, false, 'so is a missing one')
})

t.test('JSON is accepted, tabs and all', async t => {
  const text = JSON.stringify(
    { $schema: './entra-proxy.schema.json', upstream: BATCH, log: { level: 'debug' } },
    null,
    '\t',
  )
  t.match(load({ files: { '/w/entra-proxy.json': text } }), {
    log: { level: 'debug' },
    routes: [{ preset: 'batch' }],
  })
})

t.test('a flag wins over its variable, the variable over the file, the file over the default', async t => {
  const file = `upstream: ${BATCH}\nlisten: localhost:1\nlog: { level: warn, format: json }\nadmin: { listen: localhost:3 }`
  const env = {
    ENTRA_PROXY_LISTEN: 'localhost:4',
    ENTRA_PROXY_LOG_LEVEL: 'error',
    ENTRA_PROXY_ADMIN_LISTEN: 'localhost:6',
  }
  const flags = { listen: 'localhost:7', adminListen: 'off' }
  t.match(load({ file }), {
    listen: [{ port: 1 }],
    log: { level: 'warn', format: 'json' },
    admin: { listen: { port: 3 } },
  })
  t.match(load({ file, env }), {
    listen: [{ port: 4 }],
    log: { level: 'error', format: 'json' },
    admin: { listen: { port: 6 } },
  })
  t.match(load({ file, env, flags }), {
    listen: [{ port: 7 }],
    log: { level: 'error' },
    admin: { listen: undefined },
  })
  t.match(
    load({ file, env: { ENTRA_PROXY_LISTEN: '' } }),
    { listen: [{ port: 1 }] },
    'an empty variable is not set',
  )
})

t.test('--port changes the port of the first listener', async t => {
  t.match(load({ flags: { upstream: BATCH, port: 0 } }).listen, [{ host: 'localhost', port: 0 }])
  t.match(load({ flags: { upstream: BATCH, port: '9000', listen: '127.0.0.1:1' } }).listen, [
    { host: '127.0.0.1', port: 9000 },
  ])
  t.match(
    load({
      env: { ENTRA_PROXY_PORT: '9000' },
      file: `upstream: ${BATCH}\nlisten: [localhost:1, localhost:2]`,
    }).listen,
    [{ port: 9000 }, { port: 2 }],
  )
  t.match(complaints({ flags: { upstream: BATCH, port: 65_536 } }), [/^--port 65536 is not a port/])
  t.match(complaints({ flags: { upstream: BATCH, port: '80a' } }), [/^--port "80a" is not a port/])
  t.match(complaints({ flags: { upstream: BATCH, port: 8657 } }), [
    /^--port the admin listener listens on localhost:8657 already/,
  ])
  t.match(complaints({ flags: { upstream: BATCH, port: 1, listen: 'unix:/a' } }), [
    /^--port the first listener is a socket/,
  ])
})

t.test('routes of the command line replace those of the file, and say so', async t => {
  const file = `routes: [{ path: /old, upstream: "${BATCH}" }]\nlog: { level: debug }`
  const config = load({ file, flags: { route: [`/b=${BATCH}`, `/m=${ML}`] } })
  t.match(config, { log: { level: 'debug' }, routes: [{ path: '/b' }, { path: '/m' }] })
  t.match(config.warnings, [
    { severity: 'warning', line: 1, message: /--route replaces the routes of the file/ },
  ])
  t.match(load({ file, flags: { upstream: BATCH, route: [`/m=${ML}`] } }).routes, [
    { path: '/' },
    { path: '/m' },
  ])
})

t.test('routes may come from variables; those of flags replace them all', async t => {
  const env = { ENTRA_PROXY_UPSTREAM: BATCH, ENTRA_PROXY_ROUTE: `/b=${BATCH}\n/m=${ML}` }
  t.match(load({ env }).routes, [{ path: '/' }, { path: '/b' }, { path: '/m' }])
  t.match(load({ env, flags: { route: [`/x=${BATCH}`] } }).routes, [{ path: '/x' }])
  t.equal(load({ env, flags: { route: [`/x=${BATCH}`] } }).routes.length, 1)
})

t.test(
  '--preset and --scope are for all routes of the command line, or for the only one of the file',
  async t => {
    const api = 'https://api.contoso.example'
    const flags = { preset: 'custom', scope: 'api://x/.default' }
    const expected = { preset: 'custom', scope: 'api://x/.default' }
    t.match(load({ flags: { ...flags, route: [`/a=${api}`, `/b=${api}`] } }).routes, [expected, expected])
    t.match(load({ flags, file: `routes: [{ upstream: "${api}", scope: api://y/.default }]` }).routes, [
      expected,
    ])
    t.match(load({ flags, file: `upstream: ${api}` }).routes, [expected])
    const two = `routes: [{ path: /a, upstream: "${BATCH}" }, { path: /b, upstream: "${BATCH}" }]`
    t.match(complaints({ flags, file: two }), [
      /^--preset the file has 2 routes/,
      /^--scope the file has 2 routes/,
    ])
  },
)

t.test('--credential, --client-id and --tenant-id make the default credential', async t => {
  const table: [Scene, object][] = [
    [{ flags: { credential: 'azure-cli' } }, { type: 'azure-cli' }],
    [{ flags: { clientId: 'c' } }, { type: 'auto', clientId: 'c' }],
    [
      { flags: { credential: 'managed-identity' }, env: { ENTRA_PROXY_CLIENT_ID: 'c' } },
      { type: 'managed-identity', clientId: 'c' },
    ],
    [
      { flags: { tenantId: 't' }, file: 'credential: azure-cli' },
      { type: 'azure-cli', tenantId: 't' },
    ],
    [
      { flags: { clientId: 'new' }, file: 'credential: { type: managed-identity, clientId: old }' },
      { type: 'managed-identity', clientId: 'new' },
    ],
    [
      { flags: { credential: 'azure-cli' }, file: 'credential: { type: managed-identity, clientId: old }' },
      { type: 'azure-cli' },
    ],
  ]
  for (const [scene, credential] of table) {
    const config = load({ ...scene, flags: { ...scene.flags, upstream: BATCH } })
    t.strictSame(config.routes[0]?.credential, credential, JSON.stringify(scene))
  }
  const own = `routes: [{ upstream: "${BATCH}", credential: azure-powershell }]`
  t.match(load({ file: own, flags: { credential: 'azure-cli' } }).routes, [
    { credential: { type: 'azure-powershell' } },
  ])
})

t.test('a credential may lack what the environment has for it', async t => {
  const file = `upstream: ${BATCH}\ncredential: client-secret`
  const env = { AZURE_TENANT_ID: 't', AZURE_CLIENT_ID: 'c', AZURE_CLIENT_SECRET: 's' }
  t.strictSame(load({ file, env }).routes[0]?.credential, { type: 'client-secret' })
  t.strictSame(complaints({ file, env: { ...env, AZURE_CLIENT_ID: '' } }), [
    'credential.clientId credential client-secret needs clientId; add it here, or set AZURE_CLIENT_ID',
  ])
})

t.test('a bad flag or variable is reported by its name', async t => {
  const table: [Scene, RegExp][] = [
    [{ flags: { upstream: 'https://u:p@a.example' } }, /^URL a user name or password/],
    [{ env: { ENTRA_PROXY_UPSTREAM: 'ftp://a' } }, /^ENTRA_PROXY_UPSTREAM "ftp" is not a scheme/],
    [
      { flags: { upstream: 'https://api.contoso.example' } },
      /^URL the host api\.contoso\.example does not say .*--scope/,
    ],
    [{ flags: { route: ['/batch'] } }, /^--route "\/batch" is not PATH=URL/],
    [{ flags: { route: [`batch=${BATCH}`] } }, /^--route batch "batch" does not begin with a slash/],
    [{ flags: { upstream: BATCH, preset: 'bach' } }, /^--preset "bach" is not one of .*mean "batch"/],
    [{ flags: { upstream: BATCH, scope: 'x' } }, /^--scope "x" does not end in \/\.default/],
    [{ flags: { upstream: BATCH, credential: 'az' } }, /^--credential "az" is not one of/],
    [
      { flags: { upstream: BATCH, credential: 'browser' } },
      /^--credential browser is not available in this version/,
    ],
    [
      { flags: { upstream: BATCH, credential: 'azure-cli', clientId: 'c' } },
      /^--client-id credential azure-cli does not take it/,
    ],
    [{ flags: { upstream: BATCH, listen: '80' } }, /^--listen "80" is only a port/],
    [{ flags: { upstream: BATCH, listen: '0.0.0.0:80' } }, /^--listen other machines could reach/],
    [{ flags: { upstream: BATCH, adminListen: '' } }, /^--admin-listen must not be empty/],
    [{ flags: { upstream: BATCH, inspect: true } }, /^--inspect the inspector is not available/],
    [{ flags: { upstream: BATCH, logLevel: 'loud' } }, /^--log-level "loud" is not one of/],
    [
      { flags: { upstream: BATCH }, env: { ENTRA_PROXY_LOG_FORMAT: 'xml' } },
      /^ENTRA_PROXY_LOG_FORMAT "xml" is not one of/,
    ],
    [
      { flags: { upstream: BATCH }, env: { ENTRA_PROXY_QUIET: 'maybe' } },
      /^ENTRA_PROXY_QUIET "maybe" is neither true nor false/,
    ],
    [
      { flags: { upstream: BATCH }, env: { ENTRA_PROXY_SCOP: 'x' } },
      /^ENTRA_PROXY_SCOP unknown variable; did you mean "ENTRA_PROXY_SCOPE"/,
    ],
    [
      { flags: { upstream: BATCH }, env: { ENTRA_PROXY_ZZZZZZZZ: 'x' } },
      /^ENTRA_PROXY_ZZZZZZZZ unknown variable; remove it/,
    ],
    [
      { flags: { upstream: 'http://localhost:8656', scope: 'api://x/.default' } },
      /^URL http:\/\/localhost:8656 is this gateway itself/,
    ],
  ]
  for (const [scene, message] of table) t.match(complaints(scene), [message], JSON.stringify(scene))
  for (const [scene] of table) t.equal(complaints(scene).length, 1, JSON.stringify(scene))
})

t.test('flags, variables and the file are complained of together', async t => {
  const list = complaints({
    flags: { port: 'x' },
    env: { ENTRA_PROXY_NOPE: '1' },
    file: `upstream: ${BATCH}\nlog: { level: loud }`,
  })
  t.match(list, [/^ENTRA_PROXY_NOPE/, /^--port/, /^log\.level/])
})

t.test('variables that are not settings are left alone', async t => {
  const env = {
    // What Kubernetes tells each container of a Service called entra-proxy.
    ENTRA_PROXY_SERVICE_HOST: '10.0.0.1',
    ENTRA_PROXY_SERVICE_PORT: '8656',
    ENTRA_PROXY_SERVICE_PORT_HTTP: '8656',
    ENTRA_PROXY_PORT: 'tcp://10.0.0.1:8656',
    ENTRA_PROXY_PORT_8656_TCP: 'tcp://10.0.0.1:8656',
    ENTRA_PROXY_PORT_8656_TCP_ADDR: '10.0.0.1',
    // What `entra-proxy exec` tells its child.
    ENTRA_PROXY_URL: 'http://localhost:8656',
    // What the file itself asks for.
    ENTRA_PROXY_ACCOUNT: 'contoso',
    ENTRA_PROXYX: 'somebody else’s',
  }
  const file = 'upstream: https://${ENTRA_PROXY_ACCOUNT}.westeurope.batch.azure.com'
  t.match(load({ env, file }), { listen: [{ port: 8656 }], routes: [{ upstream: { origin: BATCH } }] })
})

t.test('what a variable holds cannot change the shape of the file', async t => {
  const env = { NAME: 'x\nsecurity: { allowRemote: true }', KEY: '${OTHER}' }
  const file = `upstream: ${BATCH}\noutbound: { caFile: "\${NAME}" }\nlog: { level: info }`
  const config = load({ env, file })
  t.equal(config.security.allowRemote, false)
  t.equal(config.outbound.caFile, `/w/${env.NAME}`)
})

t.test('keys are not expanded', async t => {
  t.match(complaints({ env: { LISTEN: 'listen' }, file: `"\${LISTEN}": localhost:1\nupstream: ${BATCH}` }), [
    /unknown setting/,
  ])
})

t.test('the same input gives the same configuration, so a reload is a second load', async t => {
  const scene = { file: `upstream: ${BATCH}`, flags: { port: 0 } }
  t.strictSame(load(scene), load(scene))
})

t.test('a listener for other machines is accepted with both consents', async t => {
  const file = `upstream: ${BATCH}\nlisten: 0.0.0.0:8656\nsecurity: { allowRemote: true, clientKey: { file: k } }`
  t.match(load({ file }), {
    listen: [{ host: '0.0.0.0' }],
    security: { allowRemote: true, clientKey: { file: '/w/k' } },
  })
  t.match(load({ flags: { upstream: BATCH, adminListen: '0.0.0.0:8657' } }).admin.listen, { host: '0.0.0.0' })
})

t.test('the flags in force include the variables', async t => {
  const env = {
    ENTRA_PROXY_QUIET: 'yes',
    ENTRA_PROXY_READY_FILE: '/run/ready',
    ENTRA_PROXY_DRY_RUN: '0',
    ENTRA_PROXY_REQUIRE_TOKEN: 'TRUE',
  }
  t.match(resolveFlags({ readyFile: '/mine' }, env), {
    quiet: true,
    readyFile: '/mine',
    dryRun: false,
    requireToken: true,
  })
  t.equal(load({ flags: { upstream: BATCH }, env }).requireToken, true)
  t.throws(() => resolveFlags({}, { ENTRA_PROXY_QUIET: 'maybe' }), ConfigError)
})
