import fc from 'fast-check'
import t from 'tap'
import { parseUpstream } from '../../src/config/address.ts'
import type { PresetName, Upstream } from '../../src/config/config.ts'
import {
  AUDIENCES,
  audienceOfHost,
  audienceOfScope,
  isOwnHost,
  PRESETS,
  recognisePreset,
} from '../../src/config/presets.ts'

function upstream(text: string): Upstream {
  const parsed = parseUpstream(text)
  if ('problem' in parsed) throw new Error(parsed.problem)
  return parsed.value
}

const RECOGNISED: [string, PresetName][] = [
  ['https://contoso.westeurope.batch.azure.com', 'batch'],
  ['contoso.westeurope.batch.azure.com', 'batch'],
  ['https://CONTOSO.WestEurope.Batch.Azure.Com/', 'batch'],
  ['https://contoso.westeurope.batch.azure.com:443', 'batch'],
  ['https://c0nt0so.usgovvirginia.batch.azure.com/pools', 'batch'],
  ['https://fraud.westeurope.inference.ml.azure.com', 'ml-online'],
  ['https://fraud.westeurope.inference.ml.azure.com/score', 'ml-online'],
  ['https://fraud.westeurope.inference.ml.azure.com/jobs/score', 'ml-online'],
  ['https://fraud.westeurope.inference.ml.azure.com/myjobs', 'ml-online'],
  ['https://nightly.westeurope.inference.ml.azure.com/jobs', 'ml-batch'],
  ['https://nightly.westeurope.inference.ml.azure.com/jobs/', 'ml-batch'],
  ['https://nightly.westeurope.inference.ml.azure.com/v1/jobs', 'ml-batch'],
  ['https://management.azure.com', 'arm'],
  ['https://westeurope.management.azure.com/subscriptions', 'arm'],
]

/** None of these may get a token because of its name. */
const FOREIGN = [
  'https://contoso.batch.azure.com.evil.com',
  'https://contoso.westeurope.batch.azure.com.evil.example',
  'https://contoso.westeurope.batch.azure.com.evil',
  'https://evilbatch.azure.com',
  'https://contoso.westeurope.evilbatch.azure.com',
  'https://contoso.westeurope.batch-azure.com',
  'https://contoso.westeurope.batch.azure.com.',
  'https://contoso-westeurope-batch-azure-com.evil.example',
  'https://contosowesteuropebatch.azure.com',
  'https://batch.azure.com',
  'https://westeurope.batch.azure.com',
  'https://a.b.c.batch.azure.com',
  'https://contoso.westeurope.batch.azure.co',
  'https://contoso.westeurope.batch.azure.net',
  'https://contoso.westeurope.batch.azure.com@evil.example',
  'https://evil.example/contoso.westeurope.batch.azure.com',
  'https://evil.example#contoso.westeurope.batch.azure.com',
  'https://evil.example?contoso.westeurope.batch.azure.com',
  'https://evil.example\\contoso.westeurope.batch.azure.com',
  'https://contoso.westeurope.batch.azure.com\\@evil.example',
  'https://contoso.westeurope.batch.azure.com:8443',
  'https://contoso.westeurope.batch.azure.com:80',
  'http://contoso.westeurope.batch.azure.com',
  'https://contoso.westeurope.bаtch.azure.com',
  'https://contoso.westeurope.batch.azurе.com',
  'https://contoso.westeurope.ｂａｔｃｈ.azure.com',
  'https://contoso.westeurope。batch.azure.com',
  'https://contoso%2ewesteurope.batch.azure.com',
  'https://contoso.westeurope_.batch.azure.com',
  'https://inference.ml.azure.com',
  'https://fraud.inference.ml.azure.com',
  'https://fraud.westeurope.inference.ml.azure.com.evil.example',
  'https://fraud.westeurope.inference.xml.azure.com',
  'https://fraud.westeurope.inference.ml.azure.us',
  'https://management.azure.com.evil.example',
  'https://evilmanagement.azure.com',
  'https://management-azure.com',
  'https://a.b.management.azure.com',
  'https://management.azure.com:8443',
  'https://localhost',
  'https://127.0.0.1:8443',
  'https://api.contoso.example',
]

t.test('recognises an Azure service by its host', async t => {
  for (const [text, preset] of RECOGNISED) t.equal(recognisePreset(upstream(text)), preset, text)
})

t.test('recognises nothing that only looks like one', async t => {
  for (const text of FOREIGN) {
    const parsed = parseUpstream(text)
    const verdict = 'problem' in parsed ? 'refused' : recognisePreset(parsed.value)
    t.match(verdict, /^(refused|custom)$/, text)
  }
})

t.test('a known name inside a longer one is another host', async () => {
  const label = fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/)
  fc.assert(
    fc.property(label, fc.constantFrom('.', '-', 'x'), (word, joint) => {
      for (const host of ['contoso.westeurope.batch.azure.com', 'management.azure.com']) {
        if (recognisePreset(upstream(`https://${host}${joint}${word}`)) !== 'custom') return false
      }
      return (
        recognisePreset(upstream(`https://${word}${joint === '.' ? '-' : joint}management.azure.com`)) ===
        'custom'
      )
    }),
  )
})

t.test('a token belongs to the hosts of its audience only', async t => {
  const table: [string, string, boolean][] = [
    ['https://batch.core.windows.net//.default', 'https://a.b.batch.azure.com', true],
    ['https://batch.core.windows.net/.default', 'https://a.b.batch.azure.com', true],
    ['https://batch.core.windows.net//.default', 'https://management.azure.com', false],
    ['ddbf3205-c6bd-46ae-8127-60eb93363864/.default', 'https://evil.example', false],
    ['https://management.core.windows.net//.default', 'https://management.azure.com', true],
    ['HTTPS://MANAGEMENT.AZURE.COM/.default', 'https://evil.example', false],
    ['https://management.azure.com./.default', 'https://evil.example', false],
    ['https://management.azure.com:443/.default', 'https://evil.example', false],
    ['797f4846-ba00-4fd7-ba43-dac1f8f63013/.default', 'https://evil.example', false],
    ['https://storage.azure.com/.default', 'https://acct.blob.core.windows.net', true],
    ['https://storage.azure.com/.default', 'https://acct.dfs.core.windows.net/fs', true],
    ['https://storage.azure.com/.default', 'https://acct.blob.core.chinacloudapi.cn', true],
    ['https://acct.blob.core.windows.net/.default', 'https://acct.blob.core.windows.net', true],
    ['https://acct.blob.core.windows.net/.default', 'https://evil.example', false],
    ['https://storage.azure.com/.default', 'https://acct.blob.core.windows.net:8443', false],
    ['https://vault.azure.net/.default', 'https://kv.vault.azure.net', true],
    ['https://vault.azure.net/.default', 'https://vault.azure.net.evil.example', false],
    ['https://graph.microsoft.com/.default', 'https://graph.microsoft.com', true],
    ['https://graph.microsoft.com/.default', 'https://graph.microsoft.com.evil.example', false],
    ['00000003-0000-0000-c000-000000000000/.default', 'https://evil.example', false],
    ['https://cognitiveservices.azure.com/.default', 'https://x.openai.azure.com', true],
    ['https://cognitiveservices.azure.com/.default', 'https://x.openai.azure.com.evil.example', false],
    ['https://ml.azure.com/.default', 'https://e.r.inference.ml.azure.com', true],
    ['https://ml.azure.com/.default', 'https://westeurope.api.azureml.ms', true],
    ['https://c.westeurope.kusto.windows.net/.default', 'https://c.westeurope.kusto.windows.net', true],
    ['499b84ac-1321-427f-aa17-267ca6975798/.default', 'https://dev.azure.com', true],
  ]
  for (const [scope, host, expected] of table) {
    const audience = audienceOfScope(scope)
    t.ok(audience, `${scope} is known`)
    t.equal(isOwnHost(upstream(host), audience?.hosts ?? []), expected, `${scope} at ${host}`)
  }
  for (const scope of [
    'api://11111111-2222-3333-4444-555555555555/.default',
    'https://contoso.example/.default',
  ]) {
    t.equal(audienceOfScope(scope), undefined, `${scope} is somebody's own`)
  }
})

t.test('the tables agree with themselves', async t => {
  for (const audience of AUDIENCES) {
    if (audience.scope !== undefined) {
      t.equal(audienceOfScope(audience.scope), audience, `${audience.service}: its scope leads back to it`)
    }
    for (const host of audience.hosts) {
      const sample = host.replaceAll('*', 'x')
      t.ok(audienceOfHost(sample), `${sample} belongs to ${audience.service}`)
      t.ok(isOwnHost(upstream(`https://${sample}`), audience.hosts), `${sample} is its own`)
    }
  }
  for (const [name, { scope, hosts, audience }] of Object.entries(PRESETS)) {
    if (scope === undefined) continue
    t.equal(scope, `${audience}/.default`, `${name}: Entra takes /.default off`)
    const allowed = audienceOfScope(scope)?.hosts ?? []
    t.ok(
      hosts.every(host => allowed.includes(host)),
      `${name}: its hosts are those of its audience`,
    )
  }
})

t.test('the presets are what Azure expects', async t => {
  t.equal(PRESETS.batch.scope, 'https://batch.core.windows.net//.default', 'two slashes')
  t.equal(PRESETS['ml-online'].scope, 'https://ml.azure.com/.default')
  t.equal(PRESETS['ml-batch'].scope, 'https://ml.azure.com/.default')
  t.equal(PRESETS.arm.scope, 'https://management.azure.com/.default')
  t.equal(PRESETS.custom.scope, undefined)
  t.ok(PRESETS['ml-online'].responseTimeoutMs >= 180_000, 'as long as the service itself waits')
})
