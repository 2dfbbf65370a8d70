import fc from 'fast-check'
import t from 'tap'
import { isJson, JsonLinkRewriter } from '../../src/proxy/json-links.ts'
import { LinkMap, type LinkOrigin } from '../../src/proxy/links.ts'

const BATCH = 'https://contoso.westus2.batch.azure.com'
const ML = 'https://heart.westus2.inference.ml.azure.com'
const ARM = 'https://management.azure.com'

const links = new LinkMap([
  { name: 'jobs', path: '/batch', upstream: upstream(BATCH) },
  { name: 'arm', path: '/arm', upstream: upstream(ARM) },
  { name: 'ml', path: '/ml', upstream: { ...upstream(ML), basePath: '/v1' } },
])
const origin: LinkOrigin = { route: 'jobs', gateway: 'http://localhost:8656' }
const HERE = 'http://localhost:8656/batch'

function upstream(origin: string) {
  const { host, hostname } = new URL(origin)
  return { origin, hostname, host, basePath: '' }
}

/** The body a client gets when the upstream's comes in these chunks. */
function rewrite(chunks: readonly Buffer[], map = links): Buffer {
  const rewriter = new JsonLinkRewriter(map, origin)
  const out = chunks.map(chunk => rewriter.write(chunk))
  return Buffer.concat([...out, rewriter.end()])
}

function rewriteText(text: string): string {
  return rewrite([Buffer.from(text)]).toString()
}

/** `body` cut at the given places, taken modulo its length. */
function split(body: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map(cut => cut % (body.length + 1)).sort((a, b) => a - b), body.length]
  return places.slice(1).map((end, index) => body.subarray(places[index], end))
}

function splitEvery(body: Buffer, size: number): Buffer[] {
  const count = Math.ceil(body.length / size)
  return Array.from({ length: count }, (_, index) => body.subarray(index * size, (index + 1) * size))
}

// --- The whole-document reference: tokens by one regular expression, values by their units.

const KEYS = new Set(['"odata.nextLink"', '"@odata.nextLink"', '"nextLink"', '"AzureAsyncOperationUri"'])

function reference(text: string): string {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[^"]+/gs) ?? []
  return tokens
    .map((token, index) => {
      const isValue = token[0] === '"' && KEYS.has(tokens[index - 2]!) && tokens[index - 1]!.trim() === ':'
      return isValue ? referenceValue(token) : token
    })
    .join('')
}

function referenceValue(token: string): string {
  const units = token.slice(1, -1).match(/\\u[0-9a-f]{4}|\\.|./gis) ?? []
  const link = JSON.parse(token)
  const resolved = links.resolve(link, origin)
  if (resolved === null) return token
  // The tail that link and result share at the least is path and query; as it was written, it stays.
  const base = ['http://localhost:8656/batch', 'http://localhost:8656/arm', 'http://localhost:8656/ml'].find(
    base => resolved.startsWith(base) && link.endsWith(resolved.slice(base.length)),
  )!
  return `"${base}${units.slice(units.length - (resolved.length - base.length)).join('')}"`
}

// --- Documents: nested, with keys and texts that look like links or their keys.

interface Style {
  readonly colon: string
  readonly comma: string
  readonly escapeSlash: boolean
  readonly escapeH: boolean
  readonly escapeForeign: boolean
  readonly mark: string
}

type Tree =
  | string
  | number
  | boolean
  | null
  | readonly Tree[]
  | { readonly members: readonly [string, Tree][] }

const linkKey = fc.constantFrom(...[...KEYS].map(key => key.slice(1, -1)))
const key = fc.oneof(
  linkKey,
  fc.constantFrom(
    'value',
    'url',
    'prevLink',
    'xnextLink',
    'nextLink2',
    'nextlink',
    '\\"nextLink',
    'odata.metadata',
    '',
  ),
  fc.string({ unit: 'binary', maxLength: 5 }),
)
const link = fc
  .tuple(
    fc.constantFrom(
      BATCH,
      BATCH,
      ML,
      `${ML}/v1`,
      ARM,
      `${BATCH}:443`,
      'https://evil.example',
      `${BATCH}.evil`,
      '',
    ),
    fc.constantFrom(
      '',
      '/',
      '/jobs?$skipToken=WATV2%3Aj&a=b',
      "/a%2Fb%5C('x')",
      '/é€😀',
      '/"q"',
      '/\\',
      '/..',
      ' ',
    ),
  )
  .map(parts => parts.join(''))
const text = fc.oneof(
  link,
  fc.constantFrom(
    ...[`"nextLink":"${BATCH}/"`, `\\"nextLink":"${BATCH}`, 'nextLink', ':', '\\', '\\\\', '"', `${BATCH}\\`],
  ),
  fc.string({ unit: 'binary', maxLength: 12 }),
)
const { tree } = fc.letrec<{ tree: Tree; node: Tree }>(tie => ({
  tree: fc.oneof(
    fc.array(tie('node'), { maxLength: 4 }),
    fc
      .array(fc.oneof(fc.tuple(linkKey, link), fc.tuple(key, tie('node'))), { maxLength: 6, size: 'max' })
      .map(members => ({ members })),
  ),
  node: fc.oneof(
    { depthSize: 'medium' },
    text,
    fc.integer(),
    fc.constantFrom(true, false, null),
    tie('tree'),
  ),
}))
const style: fc.Arbitrary<Style> = fc.record({
  colon: fc.constantFrom(':', ': ', ' :\t', `\r\n${' '.repeat(40)}:\r\n`),
  comma: fc.constantFrom(',', ', ', ',\r\n  '),
  escapeSlash: fc.boolean(),
  escapeH: fc.boolean(),
  escapeForeign: fc.boolean(),
  mark: fc.constantFrom('', '', '\uFEFF'),
})
const document = fc.tuple(tree, style).map(([tree, style]) => style.mark + write(tree, style))
const cuts = fc.array(fc.nat(), { maxLength: 12 })

function write(tree: Tree, style: Style): string {
  if (typeof tree === 'string') return writeText(tree, style)
  if (tree === null || typeof tree !== 'object') return JSON.stringify(tree)
  if (!('members' in tree)) return `[${tree.map(item => write(item, style)).join(style.comma)}]`
  const members = tree.members.map(
    ([name, value]) => JSON.stringify(name) + style.colon + write(value, style),
  )
  return `{${members.join(style.comma)}}`
}

function writeText(text: string, style: Style): string {
  let json = JSON.stringify(text)
  if (style.escapeSlash) json = json.replaceAll('/', '\\/')
  if (style.escapeH) json = json.replaceAll('h', '\\u0068')
  if (style.escapeForeign)
    json = json.replace(/[^\x20-\x7e]/g, c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
  return json
}

const RUNS = { numRuns: 3000 }

t.test('any document in any chunks comes out as the whole-document reference says', async t => {
  let changed = 0
  fc.assert(
    fc.property(document, cuts, (text, cuts) => {
      const expected = reference(text)
      if (expected !== text) changed += 1
      return rewrite(split(Buffer.from(text), cuts)).equals(Buffer.from(expected))
    }),
    RUNS,
  )
  t.ok(changed > RUNS.numRuns / 10, 'enough of the generated documents hold a link')
})

t.test('any document byte by byte comes out as the whole-document reference says', async t => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(document, text =>
        rewrite(splitEvery(Buffer.from(text), 1)).equals(Buffer.from(reference(text))),
      ),
      { numRuns: 1000 },
    ),
  )
})

t.test('without a route that matches, every byte is as it was', async t => {
  const elsewhere = new LinkMap([{ name: 'jobs', path: '/', upstream: upstream('https://other.example') }])
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(document, cuts, (text, cuts) => {
        const body = Buffer.from(text)
        return rewrite(split(body, cuts), elsewhere).equals(body)
      }),
      RUNS,
    ),
  )
})

t.test('a body that was rewritten is not changed by being rewritten again', async t => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(document, text => {
        const once = rewrite([Buffer.from(text)])
        return rewrite([once]).equals(once)
      }),
      RUNS,
    ),
  )
})

t.test('what is no JSON at all comes out the same however it is cut', async t => {
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 6 }).map(bytes => Buffer.from(bytes)),
    fc
      .constantFrom(
        '{',
        '"',
        '\\',
        ':',
        ' ',
        '"nextLink"',
        'nextLink',
        'Link"',
        `"${BATCH}/j"`,
        `"${BATCH}`,
        '\uFEFF',
        'é',
      )
      .map(text => Buffer.from(text)),
  )
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(noise, { maxLength: 20 }), cuts, (parts, cuts) => {
        const body = Buffer.concat(parts)
        const whole = rewrite([body])
        return rewrite(split(body, cuts)).equals(whole) && rewrite(splitEvery(body, 1)).equals(whole)
      }),
      RUNS,
    ),
  )
})

const PAGE = `{
  "odata.metadata":"${BATCH}/$metadata#jobs",
  "value":[
    {"id":"job-1","url":"${BATCH}/jobs/job-1","eTag":"0x8DC000000000001",
     "commandLine":"echo \\"nextLink\\":\\"${BATCH}/x\\"","displayName":"Zoë \\\\",
     "executionInfo":{"startTime":"2026-01-02T03:04:05.1534567Z","poolId":"pool-1"}}
  ],
  "odata.nextLink":"${BATCH}/jobs?$skipToken=WATV2%3Ajob-2&api-version=2024-07-01.20.0&maxresults=2"
}
`.replaceAll('\n', '\r\n')

t.test('the paging link of a Batch page is rewritten and nothing else, wherever the page is cut', async t => {
  const body = Buffer.from(PAGE)
  const expected = PAGE.replace(`"odata.nextLink":"${BATCH}`, `"odata.nextLink":"${HERE}`)
  t.not(expected, PAGE)
  t.equal(rewrite([body]).toString(), expected)
  for (let at = 0; at <= body.length; at += 1) {
    const cut = rewrite([body.subarray(0, at), body.subarray(at)]).toString()
    if (cut !== expected) t.equal(cut, expected, `cut at ${at}`)
  }
  for (const size of [1, 2, 3, 7, 23, 24, 25, 26]) {
    t.equal(rewrite(splitEvery(body, size)).toString(), expected, `chunks of ${size}`)
  }
})

t.test('ARM lists, OData lists and the polling link of a created endpoint are rewritten', async t => {
  t.equal(
    rewriteText(`{"value":[],"nextLink":"${ARM}/subscriptions/0/x?api-version=1&$skiptoken=a"}`),
    '{"value":[],"nextLink":"http://localhost:8656/arm/subscriptions/0/x?api-version=1&$skiptoken=a"}',
  )
  t.equal(rewriteText(`{"@odata.nextLink" : "${BATCH}/x"}`), `{"@odata.nextLink" : "${HERE}/x"}`)
  t.equal(
    rewriteText(`{"properties":{"properties":{"AzureAsyncOperationUri":"${ARM}/o?t=1","nextLink":null}}}`),
    '{"properties":{"properties":{"AzureAsyncOperationUri":"http://localhost:8656/arm/o?t=1","nextLink":null}}}',
  )
  t.equal(
    rewriteText(`[{"nextLink":"${BATCH}/1"},{"nextLink":"${ML}/v1/2"}]`),
    `[{"nextLink":"${HERE}/1"},{"nextLink":"http://localhost:8656/ml/2"}]`,
  )
})

t.test('an escaped link is understood, and its path and query keep their escapes', async t => {
  const table: readonly [value: string, expected: string][] = [
    [`${BATCH.replaceAll('/', '\\/')}\\/jobs?a=1\\u0026b=\\"`, `${HERE}\\/jobs?a=1\\u0026b=\\"`],
    [`\\u0068ttps://contoso.westus2.batch.azure.co\\u006D/é\\u00e9`, `${HERE}/é\\u00e9`],
  ]
  for (const [value, expected] of table) {
    t.equal(rewriteText(`{"nextLink":"${value}"}`), `{"nextLink":"${expected}"}`)
  }
})

t.test('only the value of a whole key is a link', async t => {
  for (const body of [
    `{"deltaLink":"${BATCH}/"}`,
    `{"NextLink":"${BATCH}/"}`,
    `{"odata_nextLink":"${BATCH}/"}`,
    `{"x.nextLink":"${BATCH}/"}`,
    `{"\\"nextLink":"${BATCH}/"}`,
    `{"a":"\\"nextLink\\":\\"${BATCH}/\\""}`,
    `{"a":"\\\\\\"nextLink\\\\\\":\\"${BATCH}/"}`,
    `{"a":"nextLink","b":"${BATCH}/"}`,
    `["nextLink","${BATCH}/"]`,
    `{"nextLink":["${BATCH}/"]}`,
    `{"nextLink":{"url":"${BATCH}/"}}`,
    `{"nextLink":null,"url":"${BATCH}/"}`,
    `{"nextLink":""}`,
  ]) {
    t.equal(rewriteText(body), body)
  }
  t.equal(rewriteText(`{"a":"nextLink","nextLink":"${BATCH}/"}`), `{"a":"nextLink","nextLink":"${HERE}/"}`)
  t.equal(rewriteText(`{"a":"\\\\","nextLink":"${BATCH}/"}`), `{"a":"\\\\","nextLink":"${HERE}/"}`)
  t.equal(
    rewriteText(`{"nextLink":"nextLink","nextLink":"${BATCH}/"}`),
    `{"nextLink":"nextLink","nextLink":"${HERE}/"}`,
  )
})

t.test('a body that is no JSON document passes as it came', async t => {
  const page = `{"nextLink":"${BATCH}/"}`
  const bodies = [
    Buffer.from(`<html>"nextLink":"${BATCH}/"</html>`),
    Buffer.from(`"nextLink":"${BATCH}/"`),
    Buffer.from(`)]}',\n${page}`),
    Buffer.from(page, 'utf16le'),
    Buffer.from(`\uFEFF${page}`, 'utf16le'),
    Buffer.from(page, 'utf16le').swap16(),
    Buffer.from(`{"nextLink":"${BATCH}/\\x"}`),
    Buffer.from(`{"nextLink":"${BATCH}/\\u00g0"}`),
    Buffer.from(`{"nextLink":"${BATCH}/\n"}`),
    Buffer.from(`{"nextLink":"${BATCH}/`),
    Buffer.from(`{"nextLink":"${BATCH}/\\`),
    Buffer.from(`{"nextLink"`),
    Buffer.from(`{"nextLink" "${BATCH}/"}`),
    Buffer.alloc(0),
  ]
  for (const [index, body] of bodies.entries()) {
    t.ok(rewrite([body]).equals(body), `body ${index}`)
    t.ok(rewrite(splitEvery(body, 1)).equals(body), `body ${index}, byte by byte`)
  }
  t.equal(
    rewriteText(`\uFEFF${page}`),
    `\uFEFF{"nextLink":"${HERE}/"}`,
    'a UTF-8 byte order mark is no obstacle',
  )
  const invalid = Buffer.from(`{"a":"\xff\xfe","nextLink":"${BATCH}/\xff"}`, 'latin1')
  const expected = Buffer.from(`{"a":"\xff\xfe","nextLink":"${HERE}/\xff"}`, 'latin1')
  t.ok(rewrite([invalid]).equals(expected), 'bytes that are no UTF-8 survive')
})

t.test('a value longer than 64 KiB passes as it came, and the next link is still found', async t => {
  const value = (bytes: number) => `${BATCH}/${'a'.repeat(bytes - BATCH.length - 1)}`
  const longest = `{"nextLink":"${value(65536)}","b":1}`
  const tooLong = `{"nextLink":"${value(65537)}","nextLink":"${BATCH}/"}`
  const endless = `{"nextLink":"${BATCH}${'\\\\\\"'.repeat(40_000)}","nextLink":"${BATCH}/"}`
  for (const size of [1000, 1001, 64 * 1024, 1024 * 1024]) {
    const through = (text: string) => rewrite(splitEvery(Buffer.from(text), size)).toString()
    t.equal(through(longest), longest.replace(BATCH, HERE))
    for (const text of [tooLong, endless]) {
      t.ok(through(text).endsWith(`,"nextLink":"${HERE}/"}`), `chunks of ${size}`)
      t.ok(through(text).startsWith(text.slice(0, 65_000)))
    }
  }
})

t.test('no more is held back than a value that has not ended', async t => {
  const rewriter = new JsonLinkRewriter(links, origin)
  const passes = (text: string) => {
    const chunk = Buffer.from(text)
    t.equal(rewriter.write(chunk), chunk, `the very chunk: ${text}`)
  }
  passes('{"value":[{"url":"')
  passes(`${BATCH}/"}],"odata.next`)
  passes('Link')
  passes('" ')
  passes(': "')
  t.equal(rewriter.write(Buffer.from('https://contoso.')).toString(), '')
  t.equal(rewriter.write(Buffer.from('westus2.batch.azure.com/j?a=\\')).toString(), '')
  t.equal(rewriter.write(Buffer.from('"b"')).toString(), `${HERE}/j?a=\\"b"`)
  passes(',"nextLink":"https://evil.example/"')
  t.equal(rewriter.write(Buffer.from(`,"nextLink":"${BATCH}`)).toString(), ',"nextLink":"')
  t.equal(rewriter.end().toString(), BATCH)
  t.equal(rewriter.end().length, 0)
})

t.test('a backslash at the end of one chunk escapes nothing but the byte after it', async t => {
  const chunks = ['{"nextLink":"a\\', '"b","nextLink":"","nextLink":"', `${BATCH}/"}`].map(text =>
    Buffer.from(text),
  )
  t.equal(rewrite(chunks).toString(), `{"nextLink":"a\\"b","nextLink":"","nextLink":"${HERE}/"}`)
})

t.test('a chunk may be reused by its owner once it was passed on', async t => {
  const rewriter = new JsonLinkRewriter(links, origin)
  const chunk = Buffer.from('{"nextLi')
  rewriter.write(chunk)
  chunk.fill(0)
  t.equal(rewriter.write(Buffer.from(`nk":"${BATCH}/"}`)).toString(), `nk":"${HERE}/"}`)
})

t.test('the gateway’s address is written as JSON', async t => {
  const odd = { ...origin, gateway: 'http://localhost:8656/"' }
  const rewriter = new JsonLinkRewriter(links, odd)
  t.equal(
    rewriter.write(Buffer.from(`{"nextLink":"${BATCH}/"}`)).toString(),
    '{"nextLink":"http://localhost:8656/\\"/batch/"}',
  )
})

t.test('JSON documents are told by their media type', async t => {
  for (const type of [
    'application/json',
    'application/json;odata=minimalmetadata',
    'application/json; charset=utf-8',
    'Application/JSON ; a="b"',
    'application/problem+json',
    'application/vnd.api+json; charset=utf-8',
    'application/a+b+json',
  ]) {
    t.equal(isJson(type), true, type)
  }
  for (const type of [
    undefined,
    '',
    'text/event-stream',
    'text/json',
    'application/x-ndjson',
    'application/json-seq',
    'application/jsonl',
    'application/+xjson',
    'application/octet-stream',
    'application/octet-stream; x=application/json',
    'multipart/mixed; boundary=application/json',
    'application/json, text/html',
    'application/xml+jsonx',
    'application/+json',
  ]) {
    t.equal(isJson(type), false, String(type))
  }
})
