import fc from 'fast-check'
import t from 'tap'
import { formatDuration, formatSize, parseDuration, parseSize } from '../../src/config/units.ts'

t.test('durations are milliseconds', async t => {
  t.equal(parseDuration('250ms'), 250)
  t.equal(parseDuration('10s'), 10_000)
  t.equal(parseDuration('5m'), 300_000)
  t.equal(parseDuration('2h'), 7_200_000)
  for (const text of ['', '10', 's', '1.5s', '-1s', '10 s', '10S', '10s ', '1h30m', '1d']) {
    t.equal(parseDuration(text), undefined, `"${text}" is none`)
  }
})

t.test('sizes are bytes', async t => {
  t.equal(parseSize('1B'), 1)
  t.equal(parseSize('64KiB'), 65_536)
  t.equal(parseSize('100MiB'), 104_857_600)
  t.equal(parseSize('10GiB'), 10_737_418_240)
  for (const text of ['', '10', '10MB', '10mib', '1.5GiB', '-1B', '10 B']) {
    t.equal(parseSize(text), undefined, `"${text}" is none`)
  }
})

t.test('what is formatted can be parsed again', async () => {
  fc.assert(fc.property(fc.nat(), ms => parseDuration(formatDuration(ms)) === ms))
  fc.assert(fc.property(fc.maxSafeNat(), bytes => parseSize(formatSize(bytes)) === bytes))
})

t.test('the largest whole unit is written', async t => {
  t.equal(formatDuration(120_000), '2m')
  t.equal(formatDuration(90_000), '90s')
  t.equal(formatDuration(0), '0ms')
  t.equal(formatSize(10 * 2 ** 30), '10GiB')
  t.equal(formatSize(1_000), '1000B')
})
