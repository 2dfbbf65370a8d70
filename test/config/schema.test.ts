import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Ajv } from 'ajv'
import t from 'tap'
import { parse, parseDocument } from 'yaml'
import { loadConfig } from '../../src/config/load.ts'
import { ConfigFile, jsonSchema } from '../../src/config/schema.ts'

const directory = resolve('config')
const examples = readdirSync(directory).filter(name => name.endsWith('.yaml'))

function read(name: string): string {
  return readFileSync(join(directory, name), 'utf8')
}

interface Schema {
  readonly [keyword: string]: unknown
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
  readonly anyOf?: readonly Schema[]
}

/** Every setting with its path, through lists and alternatives. */
function settings(schema: Schema, path: readonly string[] = []): [string, Schema][] {
  const inner = [schema.items, ...(schema.anyOf ?? [])].flatMap(sub => (sub ? settings(sub, path) : []))
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, sub]): [string, Schema][] => [
    [[...path, key].join('.'), sub],
    ...settings(sub, [...path, key]),
  ])
  return [...own, ...inner]
}

t.test('the published schema is the one the program has now', async t => {
  t.strictSame(JSON.parse(read('entra-proxy.schema.json')), jsonSchema(), 'or run `npm run schema`')
})

t.test('both schemas are valid in the strictest reading', async t => {
  const ajv = new Ajv({ strict: true, useDefaults: true, allErrors: true })
  t.doesNotThrow(() => ajv.compile(ConfigFile))
  t.doesNotThrow(() => ajv.compile(jsonSchema()))
})

t.test('editors are told of every setting, and require none that has a default', async t => {
  const schema = jsonSchema() as Schema
  t.equal(schema['$schema'], 'http://json-schema.org/draft-07/schema#')
  for (const [path, setting] of settings(schema)) t.ok(setting['description'], `${path} is described`)
  const withRequired = [['', schema] as const, ...settings(schema)].filter(([, sub]) => sub['required'])
  for (const [path, sub] of withRequired) {
    for (const key of sub['required'] as string[]) {
      t.equal(sub.properties?.[key]?.['default'], undefined, `${path} requires ${key}`)
    }
  }
})

t.test('every default in the schema is a value the schema takes', async t => {
  const ajv = new Ajv({ strict: false })
  for (const [path, setting] of settings(jsonSchema() as Schema)) {
    const defaults = setting['default'] === undefined ? [] : [setting['default']]
    for (const value of [...defaults, ...((setting['examples'] as unknown[]) ?? [])]) {
      t.ok(ajv.validate(setting, value), `${path}: ${JSON.stringify(value)}`)
    }
  }
})

for (const name of examples) {
  t.test(`${name} is valid, for the program and for editors`, async t => {
    const text = read(name)
    t.match(text, /^# yaml-language-server: \$schema=\.\/entra-proxy\.schema\.json\n/)
    const config = loadConfig({
      flags: { config: join(directory, name) },
      env: { BATCH_ACCOUNT: 'contoso' },
      cwd: directory,
    })
    t.ok(config.routes.length > 0)
    t.strictSame(config.warnings, [])
    const validate = new Ajv({ strict: false }).compile(jsonSchema())
    t.ok(validate(parse(text)), JSON.stringify(validate.errors))
  })
}

t.test('full.yaml shows every setting there is, in use or in a comment', async t => {
  const text = read('full.yaml')
  const keys = new Set(settings(ConfigFile as unknown as Schema).map(([path]) => path.split('.').at(-1)!))
  // For editors only, and of a credential that is not available.
  for (const key of ['$schema', 'certificateFile']) keys.delete(key)
  for (const key of keys) t.match(text, new RegExp(`\\b${key}\\b`), key)
})

t.test('full.yaml shows the true defaults', async t => {
  const shown = parseDocument(read('full.yaml'))
  for (const [path, setting] of settings(ConfigFile as unknown as Schema)) {
    const value = setting['default']
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') continue
    if (NOT_DEFAULT.includes(path)) continue
    const parts = path.split('.').flatMap(part => (part === 'routes' ? [part, 0] : [part]))
    t.equal(shown.getIn(parts), value, path)
  }
})

/** Where full.yaml has something more telling. */
const NOT_DEFAULT = ['listen', 'credential', 'routes.path']
