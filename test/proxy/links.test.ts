import fc from 'fast-check'
import t from 'tap'
import { LinkMap, type LinkOrigin, type LinkRoute, rewriteLinkHeaders } from '../../src/proxy/links.ts'

function route(name: string, path: string, origin: string, basePath = ''): LinkRoute {
  const { host, hostname } = new URL(origin)
  return { name, path, upstream: { origin, hostname, host, basePath } }
}

const BATCH = 'https://contoso.westus2.batch.azure.com'
const ML = 'https://heart.westus2.inference.ml.azure.com'

const links = new LinkMap([
  route('jobs', '/batch', BATCH),
  route('arm', '/arm', 'https://management.azure.com'),
  route('studio', '/ml', ML, '/v1'),
  route('studio-deep', '/ml-deep', ML, '/v1/deep'),
  route('standin', '/standin', 'http://127.0.0.1:9001'),
  route('plain', '/plain', 'http://127.0.0.2'),
  route('six', '/six', 'http://[::1]:9001'),
])

const GATEWAY = 'http://localhost:8656'
const jobs: LinkOrigin = { route: 'jobs', gateway: GATEWAY }

t.test('a link to a route of the gateway becomes the gateway URL of that route', async t => {
  const table: readonly [link: string, expected: string][] = [
    [`${BATCH}/jobs/job-1`, '/batch/jobs/job-1'],
    [BATCH, '/batch'],
    [`${BATCH}/`, '/batch/'],
    [`${BATCH}?api-version=2024-07-01.20.0`, '/batch?api-version=2024-07-01.20.0'],
    [`${BATCH}#top`, '/batch#top'],
    [`${BATCH}/jobs?a=1#frag/../x`, '/batch/jobs?a=1#frag/../x'],
    [`${BATCH}:443/jobs`, '/batch/jobs'],
    [`${BATCH}:/jobs`, '/batch/jobs'],
    ['HTTPS://Contoso.WestUS2.Batch.Azure.com/Jobs', '/batch/Jobs'],
    [
      `${BATCH}/jobs?$skipToken=WATV2%3Ajob-2&api-version=2024-07-01.20.0&$filter=(state eq 'active')`.replaceAll(
        ' ',
        '%20',
      ),
      "/batch/jobs?$skipToken=WATV2%3Ajob-2&api-version=2024-07-01.20.0&$filter=(state%20eq%20'active')",
    ],
    [`${BATCH}/jobs/j/tasks/t/files/wd%2Fa%5Cb.txt`, '/batch/jobs/j/tasks/t/files/wd%2Fa%5Cb.txt'],
    [
      `${BATCH}/certificates(thumbprintAlgorithm=sha1,thumbprint=00)//x`,
      '/batch/certificates(thumbprintAlgorithm=sha1,thumbprint=00)//x',
    ],
    [`${BATCH}/jobs?next=../..&at=https://evil.example/`, '/batch/jobs?next=../..&at=https://evil.example/'],
    [`${BATCH}/jobs/…é`, '/batch/jobs/…é'],
    [`${BATCH}/jobs/...`, '/batch/jobs/...'],
    ['https://management.azure.com/subscriptions/0?t=1', '/arm/subscriptions/0?t=1'],
    [`${ML}/v1`, '/ml'],
    [`${ML}/v1?x`, '/ml?x'],
    [`${ML}/v1/jobs`, '/ml/jobs'],
    [`${ML}/v1/deep/jobs`, '/ml-deep/jobs'],
    [`${ML}/v1/deeper/jobs`, '/ml/deeper/jobs'],
    ['http://127.0.0.1:9001/jobs', '/standin/jobs'],
    ['http://127.0.0.2:80/jobs', '/plain/jobs'],
    ['http://[::1]:9001/jobs', '/six/jobs'],
  ]
  for (const [link, expected] of table) t.equal(links.resolve(link, jobs), GATEWAY + expected, link)
})

t.test('a look-alike of an upstream is left alone', async t => {
  const table = [
    '',
    '/jobs',
    'jobs/job-1',
    '?page=2',
    '//contoso.westus2.batch.azure.com/jobs',
    'https:/contoso.westus2.batch.azure.com/jobs',
    'https:contoso.westus2.batch.azure.com/jobs',
    'http://contoso.westus2.batch.azure.com/jobs',
    'wss://contoso.westus2.batch.azure.com/jobs',
    'file:///jobs',
    `${BATCH}.evil.example/jobs`,
    `${BATCH}./jobs`,
    `${BATCH}evil/jobs`,
    'https://evil-contoso.westus2.batch.azure.com/jobs',
    'https://westus2.batch.azure.com/jobs',
    `${BATCH}@evil.example/jobs`,
    `${BATCH}:443@evil.example/jobs`,
    'https://user@contoso.westus2.batch.azure.com/jobs',
    'https://user:key@contoso.westus2.batch.azure.com/jobs',
    'https://@contoso.westus2.batch.azure.com/jobs',
    `${BATCH}:8443/jobs`,
    `${BATCH}:80/jobs`,
    `${BATCH}:443x/jobs`,
    `${BATCH}:000443/jobs`,
    `${BATCH}\\jobs`,
    `${BATCH}\\@evil.example/jobs`,
    `${BATCH}/a\\..\\b`,
    `https:\\\\contoso.westus2.batch.azure.com/jobs`,
    ` ${BATCH}/jobs`,
    `${BATCH}/jobs `,
    `${BATCH}/jo bs`,
    `${BATCH}/jobs\r\nx: y`,
    `${BATCH}/jobs\t`,
    `${BATCH}/jobs\0`,
    `${BATCH}/jobs\x7f`,
    `${BATCH}/jobs\u2028`,
    'https://contoso.westus2.batch.azure\u3002com/jobs',
    'https://contoso.westus2.batch.azure.com\u2044jobs',
    'https://contoso%2Ewestus2.batch.azure.com/jobs',
    'https://management.azu\u017Fe.com/',
    `${BATCH}/jobs/../x`,
    `${BATCH}/jobs/.`,
    `${BATCH}/jobs/%2e%2E/x`,
    `${BATCH}/jobs/.%2e?x`,
    `${ML}/`,
    `${ML}/v2/jobs`,
    `${ML}/v10/jobs`,
    `${ML}/V1/jobs`,
    `${ML}/%761/jobs`,
    'http://127.0.0.1/jobs',
    'http://127.1:9001/jobs',
    'http://127.0.0.2:443/jobs',
    'http://localhost:8656/batch/jobs',
  ]
  for (const link of table) t.equal(links.resolve(link, jobs), null, encodeURI(link))
  const kelvin = new LinkMap([route('k', '/', 'https://k.example')])
  t.equal(
    kelvin.resolve('https://\u212A.example/', { route: 'k', gateway: GATEWAY }),
    null,
    'the Kelvin sign is no k',
  )
})

t.test('the route the answer came by goes before others', async t => {
  const two = new LinkMap([
    route('reader', '/read', BATCH),
    route('writer', '/write', BATCH),
    route('pools', '/pools-only', BATCH, '/pools'),
  ])
  const from = (name: string) => two.resolve(`${BATCH}/pools/p`, { route: name, gateway: GATEWAY })
  t.equal(from('writer'), `${GATEWAY}/write/pools/p`)
  t.equal(from('reader'), `${GATEWAY}/read/pools/p`)
  t.equal(from('elsewhere'), `${GATEWAY}/pools-only/p`, 'else the longest base path')
  t.equal(
    two.resolve(`${BATCH}/jobs`, { route: 'pools', gateway: GATEWAY }),
    `${GATEWAY}/read/jobs`,
    'then the first',
  )
})

t.test(
  'a client on a route’s own port stays there for that route and is sent to the main one for others',
  async t => {
    const origin = { ...jobs, ownPort: 'http://localhost:8660' }
    t.equal(links.resolve(`${BATCH}/jobs?x=1`, origin), 'http://localhost:8660/jobs?x=1')
    t.equal(links.resolve('https://management.azure.com/x', origin), `${GATEWAY}/arm/x`)
  },
)

t.test('a prefix the client had to use is in the links too', async t => {
  const keyed = { route: 'jobs', gateway: `${GATEWAY}/~key/abc` }
  t.equal(links.resolve(`${BATCH}/jobs`, keyed), `${GATEWAY}/~key/abc/batch/jobs`)
})

t.test('a link is left alone when its gateway URL would belong to another route', async t => {
  const nested = new LinkMap([
    route('root', '/', BATCH),
    route('arm', '/arm', 'https://management.azure.com'),
    route('arm-deep', '/arm/deep', ML),
  ])
  const root = { route: 'root', gateway: GATEWAY }
  t.equal(nested.resolve(`${BATCH}/jobs`, root), `${GATEWAY}/jobs`)
  t.equal(nested.resolve(`${BATCH}/armour`, root), `${GATEWAY}/armour`)
  t.equal(nested.resolve(`${BATCH}/arm`, root), null)
  t.equal(nested.resolve(`${BATCH}/arm/x?y`, root), null)
  t.equal(nested.resolve('https://management.azure.com/deep/x', root), null)
  t.equal(nested.resolve('https://management.azure.com/x', root), `${GATEWAY}/arm/x`)
  const ownPort = { ...root, ownPort: 'http://localhost:8660' }
  t.equal(
    nested.resolve(`${BATCH}/arm/x`, ownPort),
    'http://localhost:8660/arm/x',
    'its own port has one route only',
  )
})

t.test('for any link, what is rewritten is what a URL parser would send to that upstream', async t => {
  const pieces = fc.constantFrom(
    ...[
      'https',
      'http',
      ':',
      '/',
      '//',
      '://',
      '@',
      '\\',
      '?',
      '#',
      '.',
      '..',
      '%2e',
      '%2F',
      ' ',
      '\t',
      ':443',
      ':80',
    ],
    ...[
      'contoso.westus2.batch.azure.com',
      'heart.westus2.inference.ml.azure.com',
      BATCH,
      ML,
      'management.azure.com',
    ],
    ...[
      'v1',
      '/v1',
      'deep',
      'jobs',
      'x',
      '[',
      ']',
      '\u3002',
      '\u00e9',
      '\0',
      'HTTPS://',
      '127.0.0.1',
      ':9001',
    ],
  )
  const start = fc.constantFrom(BATCH, ML, `${ML}/v1`, 'https://', 'http://127.0.0.1:9001', '')
  const link = fc
    .tuple(start, fc.array(pieces, { maxLength: 7 }))
    .map(([first, rest]) => first + rest.join(''))
  const mounts: Record<string, string> = {
    '/batch': BATCH,
    '/ml': `${ML}/v1`,
    '/ml-deep': `${ML}/v1/deep`,
    '/arm': 'https://management.azure.com',
    '/standin': 'http://127.0.0.1:9001',
  }
  let rewritten = 0
  fc.assert(
    fc.property(link, text => {
      const resolved = links.resolve(text, jobs)
      if (resolved === null) return true
      rewritten += 1
      const url = new URL(resolved)
      const mount = /^\/[^/?#]*/.exec(url.pathname)?.[0] ?? ''
      const back = new URL((mounts[mount] ?? 'none:') + url.href.slice(url.origin.length + mount.length))
      return url.origin === GATEWAY && back.href === new URL(text).href
    }),
    { numRuns: 5000 },
  )
  t.ok(rewritten > 200, 'enough of the generated links lead back')
})

t.test(
  'every header that carries a link is rewritten, names in any case, repeats and order kept',
  async t => {
    const url = `${BATCH}/jobs/job-1?a=%2F`
    const here = `${GATEWAY}/batch/jobs/job-1?a=%2F`
    const names = [
      'Location',
      'content-location',
      'OPERATION-LOCATION',
      'Azure-AsyncOperation',
      'DataServiceId',
    ]
    for (const name of names) {
      const headers = ['ETag', '0x8D', name, url, 'x-other', url, name, url, name, 'https://evil.example/']
      rewriteLinkHeaders(headers, links, jobs)
      t.same(headers, ['ETag', '0x8D', name, here, 'x-other', url, name, here, name, 'https://evil.example/'])
    }
  },
)

t.test('headers without links stay as they are', async t => {
  const headers = [
    ...['date', 'x', 'etag', '0x8D', 'vary', BATCH, 'Last-Modified', BATCH, 'dataserviceversion', BATCH],
    ...['', BATCH, 'lonk', BATCH, 'www-authenticate', BATCH, 'location', '/jobs', 'Location', ''],
  ]
  const before = [...headers]
  rewriteLinkHeaders(headers, links, jobs)
  t.same(headers, before)
  rewriteLinkHeaders([], links, jobs)
})

t.test('each target of a Link header is rewritten, parameters are not', async t => {
  const table: readonly [value: string, expected: string][] = [
    [`<${BATCH}/kv?after=a>; rel="next"`, `<${GATEWAY}/batch/kv?after=a>; rel="next"`],
    [
      `<${BATCH}/a,b;c>; rel=next, <https://evil.example/>; rel="x",<${ML}/v1/j>;rel="last"`,
      `<${GATEWAY}/batch/a,b;c>; rel=next, <https://evil.example/>; rel="x",<${GATEWAY}/ml/j>;rel="last"`,
    ],
    ['</kv?after=a>; rel="next"', '</kv?after=a>; rel="next"'],
    [`<${BATCH}/a>; anchor="${BATCH}/b"`, `<${GATEWAY}/batch/a>; anchor="${BATCH}/b"`],
    [`</a>; title="see <${BATCH}/b>, \\"<${BATCH}/c>"`, `</a>; title="see <${BATCH}/b>, \\"<${BATCH}/c>"`],
    [`</a>; title="<${BATCH}/b>`, `</a>; title="<${BATCH}/b>`],
    [`</a>; title="\\`, `</a>; title="\\`],
    [`<<${BATCH}/a>`, `<<${GATEWAY}/batch/a>`],
    [`<${BATCH}/a`, `<${BATCH}/a`],
    [`${BATCH}/a; rel="next"`, `${BATCH}/a; rel="next"`],
    ['', ''],
  ]
  for (const [value, expected] of table) {
    const headers = ['Link', value]
    rewriteLinkHeaders(headers, links, jobs)
    t.equal(headers[1], expected)
  }
})

t.test('ocp-batch-file-url stays percent-encoded', async t => {
  const host = 'contoso.westus2.batch.azure.com'
  const here = 'http%3A%2F%2Flocalhost%3A8656%2Fbatch'
  const table: readonly [value: string, expected: string][] = [
    [
      `https%3A%2F%2F${host}%2Fjobs%2Fj%2Ffiles%2Fwd%2Fstdout.txt`,
      `${here}%2Fjobs%2Fj%2Ffiles%2Fwd%2Fstdout.txt`,
    ],
    [`https%3a%2f%2f${host}%3a443%2fjobs%2fwd%5Ca%20b.txt%3fx`, `${here}%2fjobs%2fwd%5Ca%20b.txt%3fx`],
    [`https:%2F%2F${host}/jobs%252Fx`, `${here}/jobs%252Fx`],
    [`https%3A%2F%2F${host}`, here],
    [`${BATCH}/jobs/wd%5Ca`, `${GATEWAY}/batch/jobs/wd%5Ca`],
  ]
  for (const [value, expected] of table) {
    const headers = ['ocp-batch-file-url', value]
    rewriteLinkHeaders(headers, links, jobs)
    t.equal(headers[1], expected)
  }
  for (const value of [
    `https%3A%2F%2F${host}%40evil.example%2Fjobs`,
    `https%3A%2F%2F${host}%5C%40evil.example%2Fjobs`,
    `https%253A%252F%252F${host}%252Fjobs`,
    `https%3A%2F%2F${host}%2Fa%2F..%2Fb`,
    `https%3A%2F%2Fevil.example%2F`,
    '%',
    '%zz%3A%2F%2F',
  ]) {
    const headers = ['Ocp-Batch-File-Url', value]
    rewriteLinkHeaders(headers, links, jobs)
    t.equal(headers[1], value)
  }
})
