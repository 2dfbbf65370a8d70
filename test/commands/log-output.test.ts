import t from 'tap'
import { gatherLines } from '../../src/log-output.ts'

function failing(code: string): never {
  throw Object.assign(new Error(code), { code })
}

t.test('lines are written together, in order, and partly taken ones are continued', async t => {
  const writes: string[] = []
  const output = gatherLines(bytes => {
    const taken = Math.min(5, bytes.length)
    writes.push(bytes.toString('utf8', 0, taken))
    return taken
  })
  output.write('one\n')
  output.write('two\n')
  t.same(writes, [])
  output.flush()
  t.same(writes, ['one\nt', 'wo\n'])
  output.flush()
  t.equal(writes.length, 2)
  output.write(`${'x'.repeat(5_000)}\n`)
  t.equal(writes.slice(2).join('').length, 5_001, 'much is written at once')
})

t.test('what a slow reader cannot take waits, up to a bound', async t => {
  let stuck = true
  let taken = ''
  const output = gatherLines(bytes => {
    if (stuck) failing('EAGAIN')
    taken += bytes
    return bytes.length
  })
  output.write('kept\n')
  output.flush()
  stuck = false
  output.write('next\n')
  output.flush()
  t.equal(taken, 'kept\nnext\n')
  stuck = true
  for (let i = 0; i < 1_000; i++) output.write(`${'y'.repeat(5_000)}\n`)
  stuck = false
  taken = ''
  output.flush()
  t.ok(taken.length <= 1_100_000, 'the rest was dropped')
})

t.test('a reader that has gone ends the writing, not the program', async t => {
  let calls = 0
  const output = gatherLines(() => {
    calls++
    return failing('EPIPE')
  })
  output.write('lost\n')
  output.flush()
  output.write('lost too\n')
  output.flush()
  t.equal(calls, 1)
})
