import fc from 'fast-check'
import t from 'tap'
import { parseChallenges, requestedClaims } from '../../src/auth/challenge.ts'

const base64 = (text: string) => Buffer.from(text).toString('base64')
const CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}'

const table: readonly [title: string, values: readonly string[], expected: unknown][] = [
  ['no header', [], []],
  ['an empty header', [''], []],
  ['a scheme alone', ['Negotiate'], [['negotiate', {}]]],
  ['one parameter, unquoted', ['Bearer realm=api'], [['bearer', { realm: 'api' }]]],
  ['a quoted string with a comma', ['Bearer realm="a, b"'], [['bearer', { realm: 'a, b' }]]],
  [
    'escapes in a quoted string',
    ['Bearer realm="say \\"hi\\" \\\\"'],
    [['bearer', { realm: 'say "hi" \\' }]],
  ],
  ['names in any case', ['BEARER Realm="x", ERROR=y'], [['bearer', { realm: 'x', error: 'y' }]]],
  ['blanks around =', ['Bearer realm = "x" , error= y'], [['bearer', { realm: 'x', error: 'y' }]]],
  [
    'several challenges in one line',
    ['Negotiate, Basic realm="b", Bearer realm="x", error="y"'],
    [
      ['negotiate', {}],
      ['basic', { realm: 'b' }],
      ['bearer', { realm: 'x', error: 'y' }],
    ],
  ],
  [
    'several header lines',
    ['Basic realm="b"', 'Bearer error="y"'],
    [
      ['basic', { realm: 'b' }],
      ['bearer', { error: 'y' }],
    ],
  ],
  [
    'a token68 before another challenge',
    ['Negotiate YII/abc==, Bearer realm="x"'],
    [
      ['negotiate', {}],
      ['bearer', { realm: 'x' }],
    ],
  ],
  ['empty list elements', [',, Bearer realm=x,,error=y,'], [['bearer', { realm: 'x', error: 'y' }]]],
  ['a quoted string without an end', ['Bearer realm="x, error=y'], [['bearer', { realm: 'x, error=y' }]]],
  ['a repeated name', ['Bearer error=first, error=second'], [['bearer', { error: 'first' }]]],
  ['__proto__ as a name', ['Bearer __proto__=x'], [['bearer', JSON.parse('{"__proto__":"x"}')]]],
]

for (const [title, values, expected] of table) {
  t.test(`reads ${title}`, async t => {
    const found = parseChallenges(values).map(({ scheme, params }) => [scheme, Object.fromEntries(params)])
    t.strictSame(found, expected)
  })
}

t.test('finds the claims of an insufficient_claims challenge, decoded', async t => {
  const challenge = `Bearer authorization_uri="https://login.microsoftonline.com/common", error="insufficient_claims", claims="${base64(CLAIMS)}"`
  t.equal(requestedClaims([challenge]), CLAIMS)
  t.equal(requestedClaims(['Basic realm="x"', challenge]), CLAIMS, 'in a later header line')
  t.equal(requestedClaims([`Basic realm="x", ${challenge}`]), CLAIMS, 'after another challenge')
  t.equal(requestedClaims([challenge.replace(/=+"$/, '"')]), CLAIMS, 'without padding')
})

const withoutClaims: readonly [title: string, value: string][] = [
  ['another error', `Bearer error="invalid_token", claims="${base64(CLAIMS)}"`],
  ['another scheme', `PoP error="insufficient_claims", claims="${base64(CLAIMS)}"`],
  ['no claims', 'Bearer error="insufficient_claims"'],
  ['claims that are not base64', 'Bearer error="insufficient_claims", claims="{}{}{}"'],
  ['claims that are no JSON', `Bearer error="insufficient_claims", claims="${base64('hello')}"`],
  ['claims that are an array', `Bearer error="insufficient_claims", claims="${base64('[1]')}"`],
  ['claims that are empty', `Bearer error="insufficient_claims", claims="${base64('{}')}"`],
]

for (const [title, value] of withoutClaims) {
  t.test(`finds no claims in a challenge with ${title}`, async t =>
    t.equal(requestedClaims([value]), undefined),
  )
}

t.test('never throws, whatever the header', async t => {
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom(
      'Bearer ',
      'error=',
      '"',
      '\\',
      ',',
      '=',
      ' ',
      'insufficient_claims',
      'claims="',
      base64(CLAIMS),
    ),
  )
  const value = fc.array(piece).map(pieces => pieces.join(''))
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(value), values => {
        for (const { scheme } of parseChallenges(values)) if (scheme === '') return false
        const claims = requestedClaims(values)
        return claims === undefined || typeof JSON.parse(claims) === 'object'
      }),
      { numRuns: 3000 },
    ),
  )
})

t.test('reads back whatever was written as quoted strings', async t => {
  const quoted = fc.string().map(text => [text, `"${text.replace(/["\\]/g, '\\$&')}"`] as const)
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(quoted, quoted, ([a, quotedA], [b, quotedB]) => {
        const [first, second] = parseChallenges([`Bearer a=${quotedA}, Basic b=${quotedB}`])
        return first?.params.get('a') === a && second?.params.get('b') === b
      }),
    ),
  )
})

t.test('reads a hostile header of 50 kB to its end', async t => {
  const hostile = `Bearer ${'a="\\'.repeat(4000)}", ${'b '.repeat(4000)}${'c'.repeat(16_000)}, Bearer last=yes`
  t.equal(parseChallenges([hostile]).at(-1)?.params.get('last'), 'yes')
})
