import fc from 'fast-check'
import t from 'tap'
import { compileHeaderPolicy, inboundHeaders, outboundHeaders } from '../../src/proxy/headers.ts'

const NONE = { set: {}, remove: [] }

function policy(overrides: Partial<Parameters<typeof compileHeaderPolicy>[0]> = {}, via?: string) {
  return compileHeaderPolicy(
    { requestHeaders: NONE, responseHeaders: NONE, preset: 'custom', rewriteLinks: 'none', ...overrides },
    via,
  )
}

const out = (raw: string[], overrides = {}, via?: string) =>
  outboundHeaders(raw, policy(overrides, via), 'id', 'Bearer t')
const ours = ['x-ms-client-request-id', 'id', 'authorization', 'Bearer t']

t.test('headers out', async t => {
  t.same(out([]), ours)
  t.same(out(['Accept', 'a', 'accept', 'b', 'X', '']), ['Accept', 'a', 'accept', 'b', 'X', '', ...ours])
  t.same(
    out([
      'Host',
      'h',
      'Authorization',
      'x',
      'Connection',
      'close',
      'TE',
      'x',
      'Cookie',
      'c',
      'Expect',
      '100-continue',
    ]),
    ours,
  )
  t.same(
    out(['Content-Length', '5', 'Connection', 'content-length']),
    ['Content-Length', '5', ...ours],
    'framing is not the client’s to hide',
  )
  t.same(out(['X-A', '1', 'Connection', 'x-a, Keep-Alive', 'x-A', '2', 'B', '3', 'connection', 'b']), ours)
  t.same(
    out([
      'Proxy-Anything',
      '1',
      'Sec-Fetch-Mode',
      'cors',
      'X-Forwarded-Proto',
      'x',
      'X-MS-TOKEN-X',
      '1',
      'x-ms-version',
      '1',
    ]),
    ['x-ms-version', '1', ...ours],
  )
  t.same(out(['Via', 'x', 'Forwarded', 'y'], {}, '1.1 us'), [
    'x-ms-client-request-id',
    'id',
    'via',
    '1.1 us',
    'authorization',
    'Bearer t',
  ])
})

t.test('configured headers: removed ones go, set ones replace the client’s', async t => {
  const requestHeaders = { set: { 'azureml-model-deployment': 'blue' }, remove: ['x-debug'] }
  t.same(out(['Azureml-Model-Deployment', 'green', 'X-Debug', '1', 'A', '1'], { requestHeaders }), [
    'A',
    '1',
    'x-ms-client-request-id',
    'id',
    'azureml-model-deployment',
    'blue',
    'authorization',
    'Bearer t',
  ])
})

t.test('codings that cannot be undone are not asked for where bodies are read', async t => {
  const asked = (value: string, rewriteLinks: 'none' | 'headers+json') =>
    out(['Accept-Encoding', value], { rewriteLinks })[1]
  t.equal(asked('gzip, zstd;q=0.5, br', 'headers+json'), 'gzip, br')
  t.equal(asked('zstd', 'headers+json'), 'identity')
  t.equal(asked('gzip;q=1.0, *;q=0', 'headers+json'), 'gzip;q=1.0, *;q=0')
  t.equal(asked('zstd', 'none'), 'zstd')
})

t.test('headers back', async t => {
  const back = (raw: string[], overrides = {}) => inboundHeaders(raw, policy(overrides), 'id')
  const last = ['x-entra-proxy-request-id', 'id']
  t.same(back(['ETag', '0x1', 'X-A', '1', 'x-a', '2']), ['ETag', '0x1', 'X-A', '1', 'x-a', '2', ...last])
  t.same(
    back(['Set-Cookie', 'a', 'Transfer-Encoding', 'chunked', 'Alt-Svc', 'x', 'X-Entra-Proxy-Error', 'x']),
    last,
  )
  t.same(back(['X-Hop', '1', 'Connection', 'X-Hop', 'Content-Length', '2']), ['Content-Length', '2', ...last])
  const responseHeaders = { set: { 'x-new': 'v' }, remove: ['server'] }
  t.same(back(['Server', 's', 'X-New', 'old'], { responseHeaders }), ['x-new', 'v', ...last])
})

t.test('whatever the client sends, exactly one authorization leaves, it is ours and it is last', async () => {
  const name = fc.constantFrom(
    'authorization',
    'Authorization',
    'connection',
    'Connection',
    'x-a',
    'te',
    'cookie',
    'proxy-authorization',
    'host',
  )
  const value = fc.constantFrom('authorization', 'Authorization, x-a', 'close', 'Bearer client', 'x', '')
  fc.assert(
    fc.property(fc.array(fc.tuple(name, value), { maxLength: 12 }), pairs => {
      const sent = out(pairs.flat())
      const names = sent.filter((_, i) => i % 2 === 0).map(each => each.toLowerCase())
      return (
        names.filter(each => each === 'authorization').length === 1 &&
        sent.at(-1) === 'Bearer t' &&
        !names.some(each => ['connection', 'te', 'cookie', 'host', 'proxy-authorization'].includes(each))
      )
    }),
    { numRuns: 2_000 },
  )
})
