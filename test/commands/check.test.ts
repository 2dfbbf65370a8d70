import { join } from 'node:path'
import t, { type Test } from 'tap'
import { runCheck } from '../../src/commands/check.ts'
import { runSchema } from '../../src/commands/schema.ts'
import { jsonSchema } from '../../src/config/schema.ts'

/** Runs `check` in a directory with these files; nothing outside of it is found. */
function check(t: Test, files: Record<string, string>, file?: string, env: Record<string, string> = {}) {
  const cwd = t.testdir(files)
  const out: string[] = []
  const err: string[] = []
  const exitCode = runCheck(file === undefined ? {} : { file }, {
    env: { XDG_CONFIG_HOME: join(cwd, 'none'), ...env },
    cwd,
    out: line => out.push(line),
    err: line => err.push(line),
  })
  return { exitCode, out: out.join('\n'), err: err.join('\n') }
}

const GOOD = 'upstream: https://contoso.westeurope.batch.azure.com\n'

t.test('says ok and shows the routes in force', async t => {
  const { exitCode, out, err } = check(t, { 'entra-proxy.yaml': GOOD })
  t.equal(exitCode, 0)
  t.equal(err, '')
  t.match(out, /^ok {2}entra-proxy\.yaml {2}1 route\n/)
  t.match(out, '/  ->  https://contoso.westeurope.batch.azure.com')
  t.match(out, 'https://batch.core.windows.net//.default')
  t.match(out, 'credential auto')
})

t.test('looks at the file it is given, as a name', async t => {
  const files = { 'entra-proxy.yaml': 'nonsense: 1', 'other.yaml': GOOD }
  t.match(check(t, files, 'other.yaml'), { exitCode: 0, out: /^ok {2}other\.yaml/ })
})

t.test('prints every problem with its place on stderr and ends with 2', async t => {
  const text = `${GOOD}lissten: localhost:1\nlog:\n  level: loud\n`
  const { exitCode, out, err } = check(t, { 'entra-proxy.yaml': text })
  t.equal(exitCode, 2)
  t.equal(out, '')
  t.equal(
    err,
    [
      'entra-proxy.yaml:2:1   lissten    unknown setting; did you mean "listen"?',
      '    2 | lissten: localhost:1',
      '      | ^^^^^^^',
      'entra-proxy.yaml:4:10  log.level  "loud" is not one of trace, debug, info, warn, error, silent',
      '    4 |   level: loud',
      '      |          ^^^^',
      '2 errors',
    ].join('\n'),
  )
})

t.test('warnings are shown and do not fail', async t => {
  const text = [
    'routes:',
    '  - upstream: https://contoso.westeurope.batch.azure.com',
    '    scope: https://batch.core.windows.net/.default',
  ].join('\n')
  const { exitCode, out, err } = check(t, { 'entra-proxy.yaml': text })
  t.equal(exitCode, 0)
  t.match(out, /^ok {2}entra-proxy\.yaml {2}1 route {2}1 warning\n/)
  t.match(err, /^entra-proxy\.yaml:3:12 .*warning: Azure Batch/)
})

t.test('a missing file is a problem, not a stack trace', async t => {
  t.match(check(t, {}, 'no.yaml'), { exitCode: 2, err: /--config {2}no\.yaml does not exist/ })
})

t.test('variables count, as they would for run', async t => {
  t.match(check(t, { 'entra-proxy.yaml': GOOD }, undefined, { ENTRA_PROXY_LOG_LEVEL: 'loud' }), {
    exitCode: 2,
    err: /ENTRA_PROXY_LOG_LEVEL {2}"loud" is not one of/,
  })
})

t.test('schema prints the JSON Schema', async t => {
  const out: string[] = []
  t.equal(runSchema({ out: line => out.push(line) }), 0)
  t.strictSame(JSON.parse(out.join('\n')), jsonSchema())
})
