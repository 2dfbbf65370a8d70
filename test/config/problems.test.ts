// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the file has a syntax like that

import fc from 'fast-check'
import t from 'tap'
import type { ConfigProblem } from '../../src/config/config.ts'
import { examineConfig, loadConfig } from '../../src/config/load.ts'
import { ConfigError, didYouMean, formatPath, formatProblems, nearest } from '../../src/config/problems.ts'

const BATCH = 'https://contoso.westeurope.batch.azure.com'

/** What is found in a file with this text, in the form `line:column path message`. */
function examine(text: string, env: Record<string, string> = {}) {
  return examineConfig({ flags: {}, env, cwd: '/w', readFile: fileSystem({ '/w/entra-proxy.yaml': text }) })
}

function fileSystem(files: Readonly<Record<string, string>>) {
  return (path: string) => {
    if (Object.hasOwn(files, path)) return files[path]!
    throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
  }
}

function lines(problems: readonly ConfigProblem[]): string[] {
  return problems.map(({ line, column, path, message, severity }) => {
    return `${line}:${column} ${path} ${severity === 'warning' ? 'warning: ' : ''}${message}`
  })
}

/** A file with one route whose settings are these lines. */
function route(...settings: string[]): string {
  return ['routes:', `  - upstream: ${BATCH}`, ...settings.map(line => `    ${line}`)].join('\n')
}

/** Text of the file, what is expected of its only problem. */
const TABLE: [title: string, text: string, place: string, message: RegExp][] = [
  [
    'an unknown key',
    route('presett: batch'),
    '3:5 routes[0].presett',
    /unknown setting; did you mean "preset"\?/,
  ],
  [
    'an unknown key like none',
    'zzz: 1\nupstream: a.b.batch.azure.com',
    '1:1 zzz',
    /known here: .*listen, upstream/,
  ],
  [
    'an unknown key, deeper',
    route('limits: { maxBodyy: 1B }'),
    '3:15 routes[0].limits.maxBodyy',
    /mean "maxBody"/,
  ],
  [
    'a wrong value',
    route('preset: ml-onlin'),
    '3:13 routes[0].preset',
    /"ml-onlin" is not one of auto, batch, .*mean "ml-online"/,
  ],
  [
    'a wrong value like none',
    'upstream: a.b.batch.azure.com\nlog: { level: loud }',
    '2:15 log.level',
    /not one of trace, debug/,
  ],
  [
    'a wrong method',
    route('methods: [GET, post]'),
    '3:20 routes[0].methods[1]',
    /"post" is not one of .*mean "POST"/,
  ],
  [
    'a number for text',
    route('query: { top: 5 }'),
    '3:19 routes[0].query.top',
    /must be text, not 5; put it in quotes: "5"/,
  ],
  [
    'a port for an address',
    `listen: 8656\nupstream: ${BATCH}`,
    '1:9 listen',
    /must be text or a list, not 8656; put it in quotes/,
  ],
  [
    'text for a number',
    route('limits: { maxQueue: "9" }'),
    '3:25 routes[0].limits.maxQueue',
    /must be a whole number, not "9"; write it without quotes/,
  ],
  [
    'a list for a mapping',
    `upstream: ${BATCH}\nlog: []`,
    '2:6 log',
    /must be a mapping of settings, not a list/,
  ],
  ['nothing', `upstream: ${BATCH}\nlog:`, '2:1 log', /must be a mapping of settings, not empty/],
  [
    'another version',
    `version: 2\nupstream: ${BATCH}`,
    '1:10 version',
    /reads version 1 of the format, not 2/,
  ],
  [
    'a small number',
    route('limits: { maxConcurrent: 0 }'),
    '3:30 routes[0].limits.maxConcurrent',
    /at least 1, not 0/,
  ],
  [
    'a bad duration',
    route('timeouts: { connect: 10 minutes }'),
    '3:26 routes[0].timeouts.connect',
    /"10 minutes" is not a duration such as 10s/,
  ],
  ['no time', `upstream: ${BATCH}\nshutdown: { grace: 0s }`, '2:20 shutdown.grace', /at least 1ms/],
  ['too much time', `upstream: ${BATCH}\ntoken: { timeout: 600h }`, '2:19 token.timeout', /at most 596h/],
  [
    'a bad size',
    route('limits: { maxBody: 10GB }'),
    '3:24 routes[0].limits.maxBody',
    /not a size such as 100MiB/,
  ],
  ['no size', route('limits: { maxBody: 0B }'), '3:24 routes[0].limits.maxBody', /no usable size/],
  ['a missing key', `upstream: ${BATCH}\ntls: { certFile: a }`, '2:1 tls.keyFile', /is missing; add it/],
  ['a missing upstream', 'routes:\n  - path: /a', '2:5 routes[0].upstream', /is missing; add it/],
  [
    'a misspelt required key, once',
    'routes:\n  - upstreem: x',
    '2:5 routes[0].upstreem',
    /did you mean "upstream"/,
  ],
  ['no route at all', 'version: 1', '', /there is no route; give an upstream/],
  ['an empty file', '', '', /there is no route/],
  ['an empty list of routes', 'routes: []', '1:9 routes', /must not be empty/],
  ['a list instead of a file', '- a', '1:1', /must be a mapping of settings, not a list/],
  [
    'both forms',
    `upstream: ${BATCH}\nroutes: [{ upstream: "${BATCH}" }]`,
    '1:1 upstream',
    /exclude each other/,
  ],

  ['a bad short form', 'upstream: https://a.example?x', '1:11 upstream', /query or fragment/],
  [
    'a short form without scope',
    'upstream: https://api.contoso.example',
    '1:1 upstream',
    /does not say which token it takes; give the route a scope/,
  ],
  [
    'a userinfo',
    'routes: [{ upstream: "https://u:p@a.example" }]',
    '1:22 routes[0].upstream',
    /user name or password/,
  ],
  [
    'http to elsewhere',
    'upstream: http://contoso.westeurope.batch.azure.com',
    '1:11 upstream',
    /in clear; write https/,
  ],
  [
    'http to another machine',
    'routes: [{ upstream: "http://10.0.0.1", scope: api://x/.default }]',
    '1:22 routes[0].upstream',
    /in clear/,
  ],
  ['an own port of Batch', `upstream: ${BATCH}:8443`, '1:11 upstream', /answers on https port 443 only/],
  [
    'no scope for custom',
    'routes:\n  - upstream: https://api.contoso.example\n    preset: custom',
    '2:5 routes[0].scope',
    /preset custom has no scope of its own; .*--scope/,
  ],
  [
    'no scope, known host',
    'routes:\n  - upstream: https://acct.blob.core.windows.net',
    '2:5 routes[0].scope',
    /scope: https:\/\/storage\.azure\.com\/\.default \(the one of Azure Storage\)/,
  ],
  [
    'a scope for elsewhere',
    'routes:\n  - upstream: https://api.contoso.example\n    scope: https://management.azure.com/.default',
    '3:12 routes[0].scope',
    /a token for Azure Resource Manager must not go to https:\/\/api\.contoso\.example/,
  ],
  [
    'a scope of another service',
    route('scope: https://graph.microsoft.com/.default'),
    '3:12 routes[0].scope',
    /a token for Microsoft Graph must not go/,
  ],
  [
    'a preset for elsewhere',
    'routes:\n  - upstream: https://api.contoso.example\n    preset: batch',
    '3:13 routes[0].preset',
    /preset batch is for \*\.\*\.batch\.azure\.com, and api\.contoso\.example is not/,
  ],
  [
    'a preset of another service',
    route('preset: ml-online'),
    '3:13 routes[0].preset',
    /preset ml-online is for/,
  ],
  [
    'no /.default',
    route('scope: api://x/read'),
    '3:12 routes[0].scope',
    /does not end in \/\.default; write api:\/\/x\/read\/\.default/,
  ],
  [
    'a resource for a scope',
    route('scope: https://batch.core.windows.net/'),
    '3:12 routes[0].scope',
    /write https:\/\/batch\.core\.windows\.net\/\/\.default/,
  ],
  ['two scopes', route('scope: api://x/.default api://y/.default'), '3:12 routes[0].scope', /one scope only/],
  ['a scope of nothing', route('scope: x/.default'), '3:12 routes[0].scope', /names no resource/],
  [
    'one slash for Batch',
    route('scope: https://batch.core.windows.net/.default'),
    '3:12 routes[0].scope',
    /warning: Azure Batch compares .* write https:\/\/batch\.core\.windows\.net\/\/\.default/,
  ],

  [
    'a twin path',
    `routes:\n  - { path: /a, upstream: "${BATCH}" }\n  - { path: /a, upstream: "${BATCH}" }`,
    '3:13 routes[1].path',
    /routes\[0\] has the path "\/a" too/,
  ],
  [
    'a twin name',
    `routes:\n  - { path: /a, name: x, upstream: "${BATCH}" }\n  - { path: /b, name: x, upstream: "${BATCH}" }`,
    '3:23 routes[1].name',
    /name "x" is that of routes\[0\] too/,
  ],
  [
    'a twin name, made',
    `routes:\n  - { path: /a/b, upstream: "${BATCH}" }\n  - { path: /a-b, upstream: "${BATCH}" }`,
    '3:7 routes[1].name',
    /"a-b", made from its path,/,
  ],
  ['a bad name', route('name: Jobs'), '3:11 routes[0].name', /"Jobs" is not a route name such as "jobs"/],
  ['a path without slash', route('path: batch'), '3:11 routes[0].path', /write "\/batch"/],
  ['a path with slash at the end', route('path: /batch/'), '3:11 routes[0].path', /write "\/batch"/],
  ['a path with dots', route('path: /a/../b'), '3:11 routes[0].path', /dot segments/],
  ['a path with dots, encoded', route('path: /a/%2e%2E/b'), '3:11 routes[0].path', /dot segments/],
  ['a path with empty segment', route('path: /a//b'), '3:11 routes[0].path', /empty segment/],
  ['a path with a wildcard', route('path: /a/*'), '3:11 routes[0].path', /a prefix already/],
  ['a path to escape', route('path: /a b'), '3:11 routes[0].path', /need escaping/],
  ['an escaped path', route('path: /a%20b'), '3:11 routes[0].path', /need escaping/],
  ['the path of the key', route('path: /~key/x'), '3:11 routes[0].path', /choose another path/],
  ['a pattern without slash', route('paths: [jobs]'), '3:13 routes[0].paths[0]', /write "\/jobs"/],
  ['a pattern with dots', route('paths: [/jobs, /a/../b]'), '3:20 routes[0].paths[1]', /never let through/],
  ['a pattern with a query', route('paths: ["/jobs?x"]'), '3:13 routes[0].paths[0]', /no path pattern/],
  ['a pattern twice', route('paths: [/a, /a]'), '3:17 routes[0].paths[1]', /listed twice/],
  [
    'a parameter with a line break',
    route('query: { a: "b\\nc" }'),
    '3:17 routes[0].query.a',
    /control characters/,
  ],

  [
    'our own header',
    route('requestHeaders: { set: { Authorization: x } }'),
    '3:30 routes[0].requestHeaders.set.Authorization',
    /what the gateway sets/,
  ],
  [
    'the Host header',
    route('requestHeaders: { set: { host: x } }'),
    '3:30 routes[0].requestHeaders.set.host',
    /follows from the upstream/,
  ],
  [
    'a hop-by-hop header',
    route('requestHeaders: { remove: [Connection] }'),
    '3:32 routes[0].requestHeaders.remove[0]',
    /belongs to one connection/,
  ],
  [
    'a framing header',
    route('responseHeaders: { set: { Content-Length: "0" } }'),
    '3:31 routes[0].responseHeaders.set.Content-Length',
    /frames the body/,
  ],
  [
    'a proxy header',
    route('requestHeaders: { set: { Proxy-Authorization: x } }'),
    '3:30 routes[0].requestHeaders.set.Proxy-Authorization',
    /gateway's own/,
  ],
  [
    'no header name',
    route('requestHeaders: { set: { "a b": x } }'),
    '3:30 routes[0].requestHeaders.set["a b"]',
    /not a header name/,
  ],
  [
    'no header value',
    route('requestHeaders: { set: { x-a: "b\\r\\nc" } }'),
    '3:35 routes[0].requestHeaders.set.x-a',
    /no header value/,
  ],
  [
    'a header twice',
    route('requestHeaders: { set: { x-a: b, X-A: c } }'),
    '3:38 routes[0].requestHeaders.set.X-A',
    /set twice/,
  ],

  ['a bad address', `listen: :8656\nupstream: ${BATCH}`, '1:9 listen', /write localhost:8656/],
  [
    'a bad address in a list',
    `listen: [localhost:1, "8656"]\nupstream: ${BATCH}`,
    '1:23 listen[1]',
    /write localhost:8656/,
  ],
  [
    'a remote listener',
    `listen: 0.0.0.0:8656\nupstream: ${BATCH}`,
    '1:9 listen',
    /other machines could reach .* security\.allowRemote: true and security\.clientKey/,
  ],
  [
    'a remote listener without key',
    `listen: 0.0.0.0:8656\nupstream: ${BATCH}\nsecurity: { allowRemote: true }`,
    '1:9 listen',
    /also set security\.clientKey/,
  ],
  ['a remote listener of a route', route('listen: "[::]:8660"'), '3:13 routes[0].listen', /other machines/],
  [
    'two listeners on a port',
    `listen: localhost:8657\nupstream: ${BATCH}`,
    '1:9 listen',
    /the admin listener listens on localhost:8657 already/,
  ],
  [
    'two listeners, both written',
    `listen: 127.0.0.1:1\nupstream: ${BATCH}\nadmin: { listen: localhost:1 }`,
    '3:18 admin.listen',
    /the gateway listens on 127\.0\.0\.1:1 already/,
  ],
  [
    'a listener of a route',
    route('listen: localhost:8656'),
    '3:13 routes[0].listen',
    /the gateway listens on localhost:8656 already/,
  ],
  [
    'a loop',
    'routes:\n  - upstream: http://127.0.0.1:8656\n    scope: api://x/.default',
    '2:15 routes[0].upstream',
    /this gateway itself \(the gateway\)/,
  ],
  [
    'a loop to the admin listener',
    'routes:\n  - upstream: http://localhost:8657\n    scope: api://x/.default',
    '2:15 routes[0].upstream',
    /this gateway itself \(the admin listener\)/,
  ],

  [
    'a host with a scheme',
    `upstream: ${BATCH}\nsecurity: { allowedHosts: [http://a] }`,
    '2:28 security.allowedHosts[0]',
    /write name or name:port/,
  ],
  [
    'a wildcard host',
    `upstream: ${BATCH}\nsecurity: { allowedHosts: ["*.a"] }`,
    '2:28 security.allowedHosts[0]',
    /wildcard/,
  ],
  [
    'a wildcard origin',
    `upstream: ${BATCH}\nsecurity: { allowedOrigins: ["*"] }`,
    '2:30 security.allowedOrigins[0]',
    /not an origin/,
  ],
  [
    'an origin with a path',
    `upstream: ${BATCH}\nsecurity: { allowedOrigins: ["http://a/"] }`,
    '2:30 security.allowedOrigins[0]',
    /without slash/,
  ],

  [
    'an unknown credential',
    `upstream: ${BATCH}\ncredential: managed-identiy`,
    '2:13 credential',
    /not one of auto, .*mean "managed-identity"/,
  ],
  [
    'an unknown credential object',
    route('credential: { type: azure-cly }'),
    '3:25 routes[0].credential.type',
    /mean "azure-cli"/,
  ],
  [
    'a credential of no type',
    route('credential: { clientId: x }'),
    '3:5 routes[0].credential.type',
    /is missing/,
  ],
  [
    'a misspelt type, once',
    route('credential: { typ: azure-cli }'),
    '3:19 routes[0].credential.typ',
    /mean "type"/,
  ],
  [
    'a credential of wrong shape',
    route('credential: 5'),
    '3:17 routes[0].credential',
    /must be text or a mapping of settings, not 5/,
  ],
  [
    'a secret in the file',
    route(
      'credential: { type: client-secret, clientSecret: x, tenantId: t, clientId: c, clientSecretFile: f }',
    ),
    '3:40 routes[0].credential.clientSecret',
    /mean "clientSecretFile"/,
  ],
  [
    'a setting of another credential',
    route('credential: { type: azure-cli, clientId: x }'),
    '3:36 routes[0].credential.clientId',
    /azure-cli does not take it; remove it \(it takes tenantId\)/,
  ],
  [
    'a credential that lacks something',
    route('credential: static'),
    '3:5 routes[0].credential.tokenFile',
    /credential static needs tokenFile/,
  ],
  [
    'two identities',
    route('credential: { type: managed-identity, clientId: a, objectId: b }'),
    '3:56 routes[0].credential.objectId',
    /cannot be named by both clientId and objectId/,
  ],
  [
    'a common tenant',
    route('credential: { type: client-secret, tenantId: common, clientId: c, clientSecretFile: f }'),
    '3:50 routes[0].credential.tenantId',
    /signs in to one tenant/,
  ],
  [
    'no tenant',
    route('credential: { type: azure-cli, tenantId: "a/b" }'),
    '3:46 routes[0].credential.tenantId',
    /not a tenant/,
  ],
  [
    'an http authority',
    route('credential: { type: environment, authorityHost: "http://login.example" }'),
    '3:53 routes[0].credential.authorityHost',
    /write https:\/\/host/,
  ],

  [
    'a browser',
    route('credential: browser'),
    '3:17 routes[0].credential',
    /not available in this version; sign in with `az login`/,
  ],
  [
    'a certificate',
    route('credential: { type: client-certificate, certificateFile: x }'),
    '3:25 routes[0].credential.type',
    /not available in this version; use client-secret/,
  ],
  [
    'WebSocket',
    route('websocket: true'),
    '3:16 routes[0].websocket',
    /not available in this version; write false/,
  ],
  [
    'a corporate proxy',
    `upstream: ${BATCH}\noutbound: { proxy: "http://p" }`,
    '2:20 outbound.proxy',
    /not available in this version; remove it/,
  ],
  [
    'the inspector',
    `upstream: ${BATCH}\nadmin: { inspector: on }`,
    '2:21 admin.inspector',
    /not available in this version; write off/,
  ],

  ['a twin key', `upstream: ${BATCH}\nupstream: ${BATCH}`, '2:1', /"upstream" is written twice/],
  ['broken YAML', 'routes: [', '1:10', /broken YAML/],
  ['a variable in braces', 'tls: { certFile: ${X}, keyFile: y }', '1:19', /needs quotes inside/],
  [
    'an IPv6 address without quotes',
    `listen: [::1]:8656\nupstream: ${BATCH}`,
    '1:14',
    /needs quotes, such as/,
  ],
  ['a tab', 'log:\n\tlevel: info', '2:1', /a tab cannot indent/],
  ['a second document', `upstream: ${BATCH}\n---\na: 1`, '2:1', /a second document/],
  ['a missing variable', route('name: ${NAME}'), '3:11 routes[0].name', /variable NAME is not set/],
  [
    'a missing file',
    route('scope: ${file:/run/x}'),
    '3:12 routes[0].scope',
    /cannot read \/run\/x \(ENOENT\)/,
  ],
]

for (const [title, text, place, message] of TABLE) {
  t.test(`places and explains ${title}`, async t => {
    const { problems } = examine(text)
    t.equal(problems.length, 1, lines(problems).join('\n'))
    const [line] = lines(problems)
    if (place !== '') t.equal(line?.slice(0, place.length + 1), `${place} `)
    t.match(line, message)
  })
}

t.test('finds all problems at once, in the order of the file', async t => {
  const { problems, config } = examine(
    [
      'lissten: localhost:8656',
      'routes:',
      '  - path: /batch/',
      '    presett: batch',
      `    upstream: ${BATCH}`,
      '  - path: /score',
      '    preset: ml-onlin',
      '    upstream: http://fraud.westeurope.inference.ml.azure.com/score',
      '  - not a route',
      'token: { refreshBefore: soon }',
      'admin: { listen: "8657" }',
    ].join('\n'),
  )
  t.equal(config, undefined)
  t.strictSame(
    problems.map(({ path }) => path),
    [
      'lissten',
      'routes[0].path',
      'routes[0].presett',
      'routes[1].preset',
      'routes[1].upstream',
      'routes[2]',
      'token.refreshBefore',
      'admin.listen',
    ],
  )
})

t.test('prints place, path, message, the line with the place marked, and the count', async t => {
  const text = [
    'version: 1',
    'routes:',
    '  - path: /batch',
    `    upstream: ${BATCH}`,
    '    presett: batch',
    '  - path: /score',
    '    upstream: https://fraud.westeurope.inference.ml.azure.com/score',
    '    preset: ml-onlin',
  ].join('\n')
  t.equal(
    formatProblems(examine(text).problems, text),
    [
      'entra-proxy.yaml:5:5   routes[0].presett  unknown setting; did you mean "preset"?',
      '    5 |     presett: batch',
      '      |     ^^^^^^^',
      'entra-proxy.yaml:8:13  routes[1].preset   "ml-onlin" is not one of auto, batch, ml-online, ml-batch, arm, custom; did you mean "ml-online"?',
      '    8 |     preset: ml-onlin',
      '      |             ^^^^^^^^',
      '2 errors',
    ].join('\n'),
  )
})

t.test('keeps the marks under the text when the line has tabs', async t => {
  const problem = { file: 'a', line: 1, column: 3, length: 9, path: 'x', message: 'm' }
  t.equal(
    formatProblems([problem], '\t\tab'),
    ['a:1:3  x  m', '    1 | \t\tab', '      | \t\t^^', '1 error'].join('\n'),
  )
})

t.test('counts warnings apart and does not stop for them', async t => {
  const { problems, config } = examine(route('scope: https://batch.core.windows.net/.default'))
  t.match(formatProblems(problems), /warning: .*\n1 warning$/s)
  t.match(config, { warnings: problems, routes: [{ scope: 'https://batch.core.windows.net/.default' }] })
})

t.test('a thrown error says it all and ends with exit code 2', async t => {
  const readFile = fileSystem({ '/w/entra-proxy.yaml': route('presett: batch', 'paht: /x') })
  try {
    loadConfig({ flags: {}, env: {}, cwd: '/w', readFile })
    t.fail('it was accepted')
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    t.equal(error.exitCode, 2)
    t.equal(error.unconfigured, false)
    t.match(error.message, /presett.*\n.*presett: batch\n.*\^{7}\n.*paht.*mean "path".*\n2 errors$/s)
  }
})

t.test('what came out of a file is not repeated', async t => {
  const text = route('scope: ${file:/run/secret}', 'query: { a: "${file:/run/secret}" }')
  const { problems } = examineConfig({
    flags: {},
    env: {},
    cwd: '/w',
    readFile: fileSystem({ '/w/entra-proxy.yaml': text, '/run/secret': 'hunter2\n' }),
  })
  t.equal(problems.length, 1)
  t.notMatch(formatProblems(problems, text), /hunter2/)
})

t.test('one mistake makes one problem wherever the rest of the route needs it', async t => {
  for (const text of [
    route('scope: 5'),
    route('path: []'),
    route('credential: { type: 5 }'),
    'routes: 5',
    'routes: [5]',
  ]) {
    t.equal(examine(text).problems.length, 1, text)
  }
})

t.test('finds values behind anchors', async t => {
  const { problems } = examine(
    [
      'routes:',
      `  - { path: /a, upstream: "${BATCH}", limits: &few { maxQueue: -1 } }`,
      `  - { path: /b, upstream: "${BATCH}", limits: *few }`,
    ].join('\n'),
  )
  t.strictSame(
    problems.map(({ line, column }) => [line, column]),
    [
      [2, 98],
      [2, 98],
    ],
  )
})

t.test('an alias bomb is refused', async t => {
  const levels = Array.from(
    { length: 12 },
    (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join(', ')}]`,
  )
  const { problems } = examine(['a0: &a0 [x]', ...levels].join('\n'))
  t.match(lines(problems).join('\n'), /cannot be read as YAML/)
})

t.test('names the nearest word, swapped letters and case included', async t => {
  const words = ['preset', 'path', 'paths', 'upstream', 'credential']
  const table: [string, string | undefined][] = [
    ['presett', 'preset'],
    ['perset', 'preset'],
    ['PRESET', 'preset'],
    ['upstraem', 'upstream'],
    ['credentials', 'credential'],
    ['pth', 'path'],
    ['zzz', undefined],
    ['timeout', undefined],
  ]
  for (const [word, expected] of table) t.equal(nearest(word, words), expected, word)
  t.equal(didYouMean('zzz', words), '')
})

t.test('a path is written as one would in the file', async t => {
  t.equal(formatPath(['routes', 0, 'query', 'api-version']), 'routes[0].query.api-version')
  t.equal(formatPath(['a', 'b c']), 'a["b c"]')
  t.equal(formatPath([]), '')
})

t.test('any file at all is either taken or explained, and every place lies inside it', async () => {
  const good = [
    'version: 1',
    'listen: [localhost:8656, unix:/run/a.sock]',
    'credential: { type: managed-identity, clientId: x }',
    'routes:',
    '  - path: /batch',
    `    upstream: ${BATCH}`,
    '    query: { api-version: "2024" }',
    '    timeouts: { connect: 10s }',
    '    requestHeaders: { set: { a: b }, remove: [c] }',
    'log: { level: info }',
  ].join('\n')
  const snippet = fc.oneof(
    fc.constantFrom(
      ': ',
      '\n',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '"',
      "'",
      '#',
      '&a ',
      '*a',
      '${X',
      '${Y}',
      '!!x ',
      '|',
      '> ',
      '\t',
      '? ',
      '%',
      '---\n',
    ),
    fc.string({ maxLength: 4 }),
    fc.constantFrom('null', '5', 'true', '~', '[]', '{}', 'routes:', '__proto__: 1', 'constructor: 1'),
  )
  const edit = fc.tuple(fc.nat(good.length), fc.nat(12), snippet)
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), edits => {
      const text = edits.reduce((s, [at, cut, put]) => s.slice(0, at) + put + s.slice(at + cut), good)
      const { config, problems, source } = examine(text)
      const rows = text.split(/\r?\n/)
      const isPlaced = problems.every(({ line, column }) => {
        return line === undefined || (line <= rows.length && column !== undefined && column >= 1)
      })
      formatProblems(problems, source)
      return isPlaced && (config !== undefined) === problems.every(({ severity }) => severity === 'warning')
    }),
    { numRuns: 400 },
  )
})
