import t from 'tap'
import {
  formatListen,
  formatUpstream,
  isLocalListen,
  isSameListen,
  leadsTo,
  parseListen,
  parseUpstream,
} from '../../src/config/address.ts'
import type { ListenAddress, Upstream } from '../../src/config/config.ts'

function listen(text: string): ListenAddress {
  const parsed = parseListen(text)
  if ('problem' in parsed) throw new Error(parsed.problem)
  return parsed.value
}

function upstream(text: string): Upstream {
  const parsed = parseUpstream(text)
  if ('problem' in parsed) throw new Error(parsed.problem)
  return parsed.value
}

t.test('reads the addresses it can listen on', async t => {
  const table: [string, ListenAddress][] = [
    ['localhost:8656', { kind: 'tcp', host: 'localhost', port: 8656 }],
    ['LocalHost:8656', { kind: 'tcp', host: 'localhost', port: 8656 }],
    ['127.0.0.1:0', { kind: 'tcp', host: '127.0.0.1', port: 0 }],
    ['0.0.0.0:80', { kind: 'tcp', host: '0.0.0.0', port: 80 }],
    ['[::1]:8656', { kind: 'tcp', host: '::1', port: 8656 }],
    ['[0:0:0:0:0:0:0:1]:8656', { kind: 'tcp', host: '::1', port: 8656 }],
    ['gateway.internal:65535', { kind: 'tcp', host: 'gateway.internal', port: 65_535 }],
    ['unix:/run/entra-proxy.sock', { kind: 'unix', path: '/run/entra-proxy.sock' }],
  ]
  for (const [text, address] of table) t.strictSame(listen(text), address, text)
  t.equal(formatListen(listen('[::1]:8656')), '[::1]:8656')
  t.equal(formatListen(listen('unix:/run/a.sock')), 'unix:/run/a.sock')
})

t.test('refuses other addresses and says what to write', async t => {
  const table: [string, RegExp][] = [
    [':8656', /no host; write localhost:8656, or 0\.0\.0\.0:8656/],
    ['8656', /only a port; write localhost:8656/],
    ['localhost', /no port; write localhost:8656/],
    ['[::1]', /no port; write \[::1\]:8656/],
    ['::1:8656', /brackets/],
    ['::1', /brackets/],
    ['http://localhost:8656', /is a URL; write only host:port/],
    ['localhost:65536', /port 65536 is out of range/],
    ['localhost:99999', /out of range/],
    ['localhost:abc', /not an address/],
    ['localhost:-1', /not an address/],
    ['localhost:8656/', /not an address/],
    ['[fe80::1%eth0]:80', /not an IPv6 address/],
    ['127.1:80', /not an IP address/],
    ['0x7f000001:80', /not an IP address/],
    ['256.0.0.1:80', /not an IP address/],
    ['localhost.:80', /ends in a dot/],
    ['a b:80', /not a host name/],
    ['unix:run.sock', /absolute path/],
    ['unix:/run/', /absolute path/],
    [`unix:/${'x'.repeat(107)}`, /longer than the 107 bytes/],
    ['', /not an address/],
  ]
  for (const [text, message] of table) {
    const parsed = parseListen(text)
    t.match('problem' in parsed ? parsed.problem : 'accepted', message, JSON.stringify(text))
  }
})

t.test('tells what only this machine can reach', async t => {
  for (const text of ['localhost:1', '127.0.0.1:1', '127.9.9.9:1', '[::1]:1', 'unix:/a']) {
    t.equal(isLocalListen(listen(text)), true, text)
  }
  for (const text of [
    '0.0.0.0:1',
    '[::]:1',
    '10.0.0.1:1',
    '[::ffff:127.0.0.1]:1',
    'localhost.evil.example:1',
  ]) {
    t.equal(isLocalListen(listen(text)), false, text)
  }
})

t.test('tells which two addresses cannot both be open', async t => {
  const same: [string, string][] = [
    ['localhost:1', '127.0.0.1:1'],
    ['[::1]:1', 'localhost:1'],
    ['0.0.0.0:1', '127.0.0.1:1'],
    ['[::]:1', 'localhost:1'],
    ['0.0.0.0:1', '[::]:1'],
    ['unix:/a', 'unix:/a'],
  ]
  const other: [string, string][] = [
    ['localhost:1', 'localhost:2'],
    ['localhost:0', 'localhost:0'],
    ['127.0.0.1:1', '127.0.0.2:1'],
    ['127.0.0.1:1', '[::1]:1'],
    ['unix:/a', 'unix:/b'],
    ['unix:/a', 'localhost:1'],
  ]
  for (const [a, b] of same) t.equal(isSameListen(listen(a), listen(b)), true, `${a} ${b}`)
  for (const [a, b] of other) t.equal(isSameListen(listen(a), listen(b)), false, `${a} ${b}`)
})

t.test('reads upstreams, with and without a scheme', async t => {
  const table: [string, Partial<Upstream>][] = [
    [
      'https://contoso.westeurope.batch.azure.com',
      {
        origin: 'https://contoso.westeurope.batch.azure.com',
        host: 'contoso.westeurope.batch.azure.com',
        basePath: '',
      },
    ],
    ['contoso.westus.batch.azure.com', { origin: 'https://contoso.westus.batch.azure.com' }],
    ['HTTPS://Contoso.Example/Path/', { origin: 'https://contoso.example', basePath: '/Path' }],
    ['https://a.example:443/', { origin: 'https://a.example', host: 'a.example', basePath: '' }],
    [
      'https://a.example:8443',
      { origin: 'https://a.example:8443', hostname: 'a.example', host: 'a.example:8443' },
    ],
    ['a.example:8443/x', { origin: 'https://a.example:8443', basePath: '/x' }],
    ['http://localhost:80', { origin: 'http://localhost', host: 'localhost' }],
    ['http://[::1]:9000', { origin: 'http://[::1]:9000', hostname: '[::1]', host: '[::1]:9000' }],
    ['https://[0:0::0:1]', { hostname: '[::1]' }],
    ['https://bücher.example', { hostname: 'xn--bcher-kva.example' }],
    ['https://a.example/with%20escape/~x', { basePath: '/with%20escape/~x' }],
  ]
  for (const [text, expected] of table) t.match(upstream(text), expected, text)
  t.equal(formatUpstream(upstream('a.example/x/')), 'https://a.example/x')
})

t.test('refuses what a URL parser would quietly repair, and says what to write', async t => {
  const table: [string, RegExp][] = [
    ['https://user:secret@a.example', /user name or password does not belong here/],
    ['https://contoso.westeurope.batch.azure.com@evil.example', /user name or password/],
    ['https://a.example?x=1', /query or fragment/],
    ['https://a.example/#x', /query or fragment/],
    ['https://a.example.', /ends in a dot/],
    ['https://a..example', /not a host name/],
    ['https://a.example:0', /not a port/],
    ['https://a.example:65536', /not a port/],
    ['https://a.example:', /not a port/],
    ['https:/a.example', /write https:\/\/host/],
    ['https:\\\\a.example', /write https:\/\/host/],
    ['https://a.example\\@evil.example', /characters that need escaping/],
    ['ftp://a.example', /not a scheme/],
    ['ws://a.example', /not a scheme/],
    ['//a.example', /no host/],
    ['https://', /no host/],
    ['', /no host/],
    ['https:///path', /no host/],
    ['https://127.1', /not an IP address/],
    ['https://0x7f.0.0.1', /not an IP address/],
    ['https://2130706433', /not an IP address/],
    ['https://[::1', /not a host|not an IPv6/],
    ['https://[fe80::1%25eth0]', /not an IPv6 address/],
    ['https://a.example/../x', /dot segments/],
    ['https://a.example/%2e%2E/x', /dot segments/],
    ['https://a.example/x//y', /empty segments/],
    ['https://a.example/x y', /need escaping/],
    ['https://a.example/%zz', /need escaping/],
    ['https://a example', /not a host name/],
    ['https://a.example\n', /not a host name/],
    ['https://contoso.westeurope.ｂatch.azure.com', /only look like ASCII/],
    ['https://contoso。batch.azure.com', /only look like ASCII/],
    ['https://*.batch.azure.com', /not a host name/],
    [`https://${'a'.repeat(64)}.example`, /not a host name/],
  ]
  for (const [text, message] of table) {
    const parsed = parseUpstream(text)
    t.match('problem' in parsed ? parsed.problem : 'accepted', message, JSON.stringify(text))
  }
})

t.test('a password in an upstream is not repeated', async t => {
  const parsed = parseUpstream('https://user:hunter2@a.example')
  t.notMatch('problem' in parsed && parsed.problem, /hunter2/)
})

t.test('knows its own listeners again', async t => {
  const table: [string, string, boolean][] = [
    ['http://localhost:8656', 'localhost:8656', true],
    ['http://127.0.0.1:8656', 'localhost:8656', true],
    ['http://[::1]:8656/x', 'localhost:8656', true],
    ['https://localhost:8656', '0.0.0.0:8656', true],
    ['http://127.0.0.1', '127.0.0.1:80', true],
    ['https://gateway.internal', 'gateway.internal:443', true],
    ['http://localhost:8658', 'localhost:8656', false],
    ['https://a.example:8656', 'localhost:8656', false],
    ['http://localhost:8656', 'localhost:0', false],
    ['http://localhost:8656', 'unix:/a', false],
  ]
  for (const [from, to, expected] of table)
    t.equal(leadsTo(upstream(from), listen(to)), expected, `${from} ${to}`)
})
