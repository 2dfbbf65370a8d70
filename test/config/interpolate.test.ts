// biome-ignore-all lint/suspicious/noTemplateCurlyInString: it is the syntax under test

import t from 'tap'
import { interpolate } from '../../src/config/interpolate.ts'

const VARIABLES: Readonly<Record<string, string>> = {
  ACCOUNT: 'contoso',
  EMPTY: '',
  TRICKY: '${ACCOUNT} $$ a: b',
}

function expand(text: string) {
  return interpolate(text, {
    variable: name => VARIABLES[name],
    file: path => {
      if (path === '/run/secret') return 'hunter2\n'
      throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
    },
  })
}

t.test('expands variables, defaults and files', async t => {
  const table: [string, string][] = [
    ['plain', 'plain'],
    ['https://${ACCOUNT}.azure.com', 'https://contoso.azure.com'],
    ['${ACCOUNT}${ACCOUNT}', 'contosocontoso'],
    ['${EMPTY}', ''],
    ['${EMPTY:-fallback}', 'fallback'],
    ['${NONE:-fallback}', 'fallback'],
    ['${NONE:-}', ''],
    ['${NONE:-a:-b ?}', 'a:-b ?'],
    ['${ACCOUNT:-fallback}', 'contoso'],
    ['${ACCOUNT:?needed}', 'contoso'],
    ['${file:/run/secret}', 'hunter2'],
    ['$${ACCOUNT}', '${ACCOUNT}'],
    ['5$$', '5$'],
    ['$filter and $', '$filter and $'],
    ['$$$$', '$$'],
  ]
  for (const [text, value] of table) t.match(expand(text), { value, problems: [] }, text)
})

t.test('what a variable holds is not expanded again', async t => {
  t.equal(expand('${TRICKY}').value, VARIABLES['TRICKY'])
})

t.test('says what is missing and what to do', async t => {
  const table: [string, RegExp][] = [
    ['${NONE}', /NONE is not set; set it, or give a default: \$\{NONE:-value\}/],
    ['${NONE:?the account name}', /NONE is not set: the account name; set it/],
    ['${EMPTY:?the account name}', /EMPTY is empty: the account name/],
    ['${file:/nowhere}', /cannot read \/nowhere \(ENOENT\)/],
    ['${ACCOUNT', /no closing brace/],
    ['${}', /not understood/],
    ['${1ST}', /not understood/],
    ['${A B}', /not understood/],
    ['${ACCOUNT:+x}', /not understood/],
    ['${NONE:-${ACCOUNT}}', /not nested/],
  ]
  for (const [text, message] of table) {
    const { problems } = expand(text)
    t.equal(problems.length, 1, text)
    t.match(problems[0], message, text)
  }
})

t.test('reports every problem of one text', async t => {
  t.equal(expand('${NONE} ${OTHER} ${file:/nowhere}').problems.length, 3)
})

t.test('names the variables it asked for, and what came out of files', async t => {
  const { variables, secrets } = expand('${ACCOUNT} ${NONE:-x} ${file:/run/secret}')
  t.strictSame(variables, ['ACCOUNT', 'NONE'])
  t.strictSame(secrets, ['hunter2'])
})
