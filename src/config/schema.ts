// The configuration file as one schema: its types, its validation, its defaults, its documentation and
// the JSON Schema for editors. What a value means beyond its form is settled in resolve.ts.

import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import Type, { type Static } from 'typebox'
import { PRESET_NAMES } from './presets.ts'
import { type ConfigPath, didYouMean, nearest } from './problems.ts'
import { DURATION_PATTERN, SIZE_PATTERN } from './units.ts'

const closed = { additionalProperties: false } as const

/** Credential types by name. Those in UNAVAILABLE_CREDENTIALS are known, and refused with a sentence. */
export const CREDENTIAL_TYPES = [
  'auto',
  'environment',
  'workload-identity',
  'managed-identity',
  'client-secret',
  'client-certificate',
  'azure-cli',
  'azure-developer-cli',
  'azure-powershell',
  'browser',
  'device-code',
  'static',
] as const

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'MERGE'] as const

const CredentialName = Type.Enum([...CREDENTIAL_TYPES], {
  type: 'string',
  description:
    'How tokens are got: auto (the default order of Azure Identity, the one that works is kept and named), ' +
    'environment, workload-identity, managed-identity, client-secret, azure-cli, azure-developer-cli, ' +
    'azure-powershell, static (a token from a file, for debugging). client-certificate, browser and ' +
    'device-code are not available in this version.',
})

const Credential = Type.Union([
  CredentialName,
  Type.Object(
    {
      type: CredentialName,
      tenantId: Type.Optional(
        text('The Entra tenant: its id or one of its domain names.', 'contoso.onmicrosoft.com'),
      ),
      clientId: Type.Optional(
        text(
          'The application (client) id; for managed-identity the id of a user-assigned identity.',
          '11111111-2222-3333-4444-555555555555',
        ),
      ),
      resourceId: Type.Optional(
        text(
          'managed-identity: the ARM resource id of a user-assigned identity.',
          '/subscriptions/…/userAssignedIdentities/jobs',
        ),
      ),
      objectId: Type.Optional(
        text(
          'managed-identity: the object (principal) id of a user-assigned identity.',
          '11111111-2222-3333-4444-555555555555',
        ),
      ),
      clientSecretFile: Type.Optional(
        text('client-secret: the file that holds the secret.', '/run/secrets/client-secret'),
      ),
      certificateFile: Type.Optional(
        text('client-certificate: not available in this version.', '/run/secrets/client.pem'),
      ),
      tokenFile: Type.Optional(
        text(
          'static: the file that holds the token. workload-identity: the federated token; default AZURE_FEDERATED_TOKEN_FILE.',
          './token.txt',
        ),
      ),
      authorityHost: Type.Optional(
        text('The address of Entra in a sovereign cloud.', 'https://login.microsoftonline.us'),
      ),
    },
    closed,
  ),
])

const Listen = text(
  'An address: host:port, or unix:/path for a socket only this user can open. localhost stands for ' +
    '127.0.0.1 and ::1; port 0 takes a free port and says which.',
  'localhost:8656',
  'unix:/run/entra-proxy/entra-proxy.sock',
)

const Timeouts = Type.Object(
  {
    connect: duration('Longest wait for a connection to the upstream, TLS included.', '10s'),
    response: Type.Optional(
      duration(
        'Longest wait for the head of a response once the request is sent. Default: by the preset ' +
          '(batch 60s, ml-online 180s, all others 5m).',
      ),
    ),
    idle: duration('Longest silence inside a body, in either direction.', '2m'),
  },
  { ...closed, default: {}, description: 'Time limits of the way to the upstream.' },
)

const Limits = Type.Object(
  {
    maxConcurrent: Type.Integer({
      minimum: 1,
      default: 256,
      description: 'Requests to the upstream at one time; further ones wait in the queue.',
    }),
    maxQueue: Type.Integer({
      minimum: 0,
      default: 256,
      description: 'Requests that may wait; one more is answered 503 with Retry-After.',
    }),
    queueTimeout: duration('Longest wait in the queue; then 503 with Retry-After.', '10s'),
    maxBody: Type.String({
      pattern: SIZE_PATTERN,
      title: 'size such as 100MiB or 10GiB (units B, KiB, MiB, GiB)',
      default: '10GiB',
      examples: ['100MiB'],
      description: 'Largest request body; a larger one is answered 413.',
    }),
  },
  { ...closed, default: {}, description: 'How much of the upstream one route may take.' },
)

const Route = Type.Object(
  {
    name: Type.Optional(
      Type.String({
        pattern: '^[a-z][a-z0-9-]{0,39}$',
        title: 'route name such as "jobs" (a lower-case letter, then up to 39 letters, digits and hyphens)',
        examples: ['jobs'],
        description: 'Name in logs, metrics and commands; unique. Default: made from the path.',
      }),
    ),
    path: Type.String({
      minLength: 1,
      default: '/',
      examples: ['/batch'],
      description:
        'Path prefix on a segment boundary, taken off before forwarding. The longest one that fits wins.',
    }),
    listen: Type.Optional(
      text(
        'The route\'s own address, where it is mounted at "/", for clients that drop the path of a base URL.',
        'localhost:8660',
      ),
    ),
    upstream: text(
      'Where requests go: https://host, with a base path if wanted. http:// is accepted for loopback only.',
      'https://contoso.westeurope.batch.azure.com',
    ),
    preset: Type.Enum(['auto', ...PRESET_NAMES], {
      type: 'string',
      default: 'auto',
      description: "Defaults for a kind of service. auto takes it from the upstream's host.",
    }),
    scope: Type.Optional(
      text(
        'The scope Entra is asked for, ending in /.default; sent exactly as written. Needed with preset custom.',
        'api://11111111-2222-3333-4444-555555555555/.default',
      ),
    ),
    credential: Type.Optional(
      Type.Union(Credential.anyOf, {
        description: "The route's own credential. Default: the one of the whole file.",
      }),
    ),
    methods: Type.Optional(
      Type.Array(Type.Enum([...METHODS], { type: 'string' }), {
        minItems: 1,
        uniqueItems: true,
        examples: [['GET', 'HEAD']],
        description: 'The methods that are let through; all when absent.',
      }),
    ),
    paths: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        minItems: 1,
        uniqueItems: true,
        examples: [['/jobs/**', '/pools']],
        description:
          'The paths below the route that are let through; all when absent. * is one segment, ** any number.',
      }),
    ),
    query: Type.Record(Type.String(), Type.String(), {
      ...closed,
      default: {},
      examples: [{ 'api-version': '2024-07-01.20.0' }],
      description: 'Query parameters, each added only when the client sent none of that name.',
    }),
    requestHeaders: headerRules('Changes to the headers of requests.'),
    responseHeaders: headerRules('Changes to the headers of responses.'),
    rewriteLinks: Type.Optional(
      Type.Enum(['none', 'headers', 'headers+json'], {
        type: 'string',
        description:
          "Turn links to a route's upstream into the gateway's own: in headers, and in the paging and " +
          'polling keys of JSON. Default: headers for ml-online, headers+json for all others.',
      }),
    ),
    websocket: Type.Boolean({
      default: false,
      description: 'Let WebSocket upgrades through. Not available in this version: only false.',
    }),
    trustUpstream: Type.Boolean({
      default: false,
      description: "Let the scope's token go to a host that is not one of that service's own.",
    }),
    timeouts: Timeouts,
    limits: Limits,
  },
  { ...closed, description: 'A path prefix and where it leads.' },
)

/** The whole file. */
export const ConfigFile = Type.Object(
  {
    $schema: Type.Optional(Type.String({ description: 'For editors; not read.' })),
    version: Type.Literal(1, { default: 1, description: 'The version of this format.' }),
    listen: Type.Union([Listen, Type.Array(Listen, { minItems: 1 })], {
      default: 'localhost:8656',
      description: 'Where the gateway listens: an address or a list of them.',
    }),
    upstream: Type.Optional(
      text(
        'Short form: one route at "/" with this upstream. Instead of routes.',
        'https://contoso.westeurope.batch.azure.com',
      ),
    ),
    credential: Type.Union(Credential.anyOf, {
      default: 'auto',
      examples: [
        'managed-identity',
        { type: 'managed-identity', clientId: '11111111-2222-3333-4444-555555555555' },
      ],
      description:
        'The credential of every route that has none of its own: a type, or an object with a type.',
    }),
    routes: Type.Optional(Type.Array(Route, { minItems: 1, description: 'What leads where.' })),
    token: Type.Object(
      {
        refreshBefore: duration('How long before its end a token is renewed.', '10m'),
        timeout: duration('Longest time one attempt to get a token may take.', '15s'),
      },
      { ...closed, default: {}, description: 'How tokens are kept fresh.' },
    ),
    outbound: Type.Object(
      {
        caFile: Type.Optional(
          text(
            'PEM file of further certificate authorities, for upstreams and Entra alike.',
            '/etc/ssl/corp-ca.pem',
          ),
        ),
        proxy: Type.Optional(
          text('Corporate proxy. Not available in this version.', 'http://proxy.corp.example:3128'),
        ),
      },
      { ...closed, default: {}, description: 'The way out, to upstreams and to Entra.' },
    ),
    tls: Type.Optional(
      Type.Object(
        {
          certFile: text('PEM file of the certificate and its chain.', '/run/tls/tls.crt'),
          keyFile: text('PEM file of its private key.', '/run/tls/tls.key'),
        },
        { ...closed, description: 'TLS on the gateway listener, for clients that refuse http.' },
      ),
    ),
    security: Type.Object(
      {
        allowedHosts: Type.Array(Type.String({ minLength: 1 }), {
          default: [],
          examples: [['gateway.internal', 'gateway.internal:8656']],
          description:
            'Host header values accepted beyond localhost, 127.0.0.1 and [::1]: name or name:port.',
        }),
        allowedOrigins: Type.Array(Type.String({ minLength: 1 }), {
          default: [],
          examples: [['http://localhost:3000']],
          description: 'Origins of browser pages that may call; none by default.',
        }),
        forwardedRequests: Type.Enum(['reject', 'strip'], {
          type: 'string',
          default: 'reject',
          description:
            'What happens to a request that came through another proxy (X-Forwarded-*, Forwarded, Via).',
        }),
        clientKey: Type.Optional(
          Type.Object(
            { file: text('The file that holds the key.', '/run/secrets/client-key') },
            { ...closed, description: 'A key every caller has to present.' },
          ),
        ),
        allowRemote: Type.Boolean({
          default: false,
          description: 'Accept a listener that other machines can reach; needs clientKey too.',
        }),
      },
      { ...closed, default: {}, description: 'Who may call.' },
    ),
    admin: Type.Object(
      {
        listen: Type.String({
          minLength: 1,
          default: 'localhost:8657',
          examples: ['localhost:8657', '0.0.0.0:8657', 'off'],
          description: 'Address of health checks, metrics and control, or off.',
        }),
        metrics: Type.Boolean({ default: true, description: 'Serve /metrics.' }),
        inspector: Type.Enum(['auto', 'on', 'off'], {
          type: 'string',
          default: 'auto',
          description:
            'The request inspector. Not available in this version: only auto or off, and auto is off.',
        }),
      },
      { ...closed, default: {}, description: 'The admin listener.' },
    ),
    log: Type.Object(
      {
        level: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'], {
          type: 'string',
          default: 'info',
          description: 'The least important lines that are written.',
        }),
        format: Type.Enum(['auto', 'pretty', 'json'], {
          type: 'string',
          default: 'auto',
          description: 'auto is pretty on a terminal and JSON elsewhere.',
        }),
        access: Type.Enum(['all', 'errors', 'none'], {
          type: 'string',
          default: 'all',
          description: 'Which requests get a line: all, those that failed, or none.',
        }),
      },
      { ...closed, default: {}, description: 'What is logged.' },
    ),
    shutdown: Type.Object(
      { grace: duration('How long requests in flight may go on after SIGTERM.', '25s') },
      { ...closed, default: {}, description: 'How it stops.' },
    ),
  },
  {
    ...closed,
    title: 'entra-proxy configuration',
    description: 'Where the gateway listens, where its routes lead, and which credential makes their tokens.',
  },
)

/** The file once it has passed: every default filled in. */
export type ConfigDocument = Static<typeof ConfigFile>
export type RouteDocument = Static<typeof Route>
export type CredentialDocument = Static<typeof Credential>

function text(description: string, ...examples: string[]) {
  return Type.String({ minLength: 1, description, examples })
}

function duration(description: string, byDefault?: string) {
  return Type.String({
    pattern: DURATION_PATTERN,
    title: 'duration such as 10s or 5m (units ms, s, m, h)',
    ...(byDefault === undefined ? {} : { default: byDefault }),
    examples: ['30s'],
    description,
  })
}

function headerRules(description: string) {
  return Type.Object(
    {
      set: Type.Record(Type.String(), Type.String(), {
        ...closed,
        default: {},
        examples: [{ 'azureml-model-deployment': 'blue' }],
        description: 'Headers that get this value, whatever the message had.',
      }),
      remove: Type.Array(Type.String(), { default: [], description: 'Names of headers that are taken out.' }),
    },
    { ...closed, default: {}, description },
  )
}

/** A place in the document that does not fit the schema. `atKey`: the key itself is what is wrong. */
export interface SchemaProblem {
  readonly path: ConfigPath
  readonly atKey: boolean
  readonly message: string
}

export interface Validated {
  /** The document with its defaults, less everything `problems` names. */
  readonly document: ConfigDocument
  readonly problems: readonly SchemaProblem[]
  /** Indices of routes that lack something they cannot do without. */
  readonly lostRoutes: ReadonlySet<number>
}

/**
 * Checks a parsed file. What is wrong is reported and then taken out, so that the rest can still be
 * looked at and all problems are named at once. `raw` is changed in place.
 */
export function validateDocument(raw: unknown): Validated {
  const validate = validator()
  const lostRoutes = new Set<number>()
  let problems: SchemaProblem[] | undefined
  let document = raw
  for (let round = 0; !validate(document); round++) {
    if (round > MAX_ROUNDS) throw new Error('the configuration schema refuses its own defaults')
    const errors = decisiveErrors(validate.errors ?? [])
    problems ??= errors.filter(error => !isRespelt(error, errors)).map(toProblem)
    for (const error of errors) document = prune(document, error, lostRoutes)
  }
  return { document: document as ConfigDocument, problems: problems ?? [], lostRoutes }
}

/** Each round takes out what the one before found; what is left can be no deeper than the schema is. */
const MAX_ROUNDS = 10

let compiled: ValidateFunction | undefined

/**
 * Compiled at first use only: `version` and `help` need none. The schema is a constant that a test holds
 * against the meta-schema; leaving that and the optimiser out here more than halves the time to start.
 */
function validator(): ValidateFunction {
  compiled ??= new Ajv({
    allErrors: true,
    useDefaults: true,
    strict: true,
    verbose: true,
    meta: false,
    validateSchema: false,
    code: { optimize: false },
  }).compile(ConfigFile)
  return compiled
}

/**
 * Where a value may have one of several shapes, ajv reports why it fits none of them. Keeps what is
 * wrong with the shape the writer chose, or says once that no shape fits.
 */
function decisiveErrors(errors: readonly ErrorObject[]): ErrorObject[] {
  return errors.filter(error => {
    if (error.keyword === 'anyOf') {
      return branchesOf(errors, error).every(branch => isWrongShape(branch, error.instancePath))
    }
    const union = errors.find(other => other.keyword === 'anyOf' && isWithin(error, other))
    if (union !== undefined) {
      const branch = branchesOf(errors, union).find(candidates => candidates.includes(error)) ?? []
      if (isWrongShape(branch, union.instancePath)) return false
    }
    // A value of the wrong type is not one of an enumeration either: said once.
    const hasWrongType = errors.some(
      other =>
        other.keyword === 'type' &&
        other.parentSchema === error.parentSchema &&
        other.instancePath === error.instancePath,
    )
    return !(hasWrongType && (error.keyword === 'enum' || error.keyword === 'const'))
  })
}

/** A missing key that stands there misspelt: the unknown key beside it says so already. */
function isRespelt(error: ErrorObject, errors: readonly ErrorObject[]): boolean {
  if (error.keyword !== 'required') return false
  const known = Object.keys((error.parentSchema as { properties?: object }).properties ?? {})
  return errors.some(
    other =>
      other.keyword === 'additionalProperties' &&
      other.instancePath === error.instancePath &&
      nearest(other.params['additionalProperty'] as string, known) === error.params['missingProperty'],
  )
}

function isWithin(error: ErrorObject, union: ErrorObject): boolean {
  return (
    error !== union &&
    error.schemaPath.startsWith(`${union.schemaPath}/`) &&
    `${error.instancePath}/`.startsWith(`${union.instancePath}/`)
  )
}

function branchesOf(errors: readonly ErrorObject[], union: ErrorObject): ErrorObject[][] {
  const within = errors.filter(error => isWithin(error, union))
  return (union.schema as unknown[]).map((_, i) =>
    within.filter(error => error.schemaPath.startsWith(`${union.schemaPath}/${i}/`)),
  )
}

function isWrongShape(branch: readonly ErrorObject[], instancePath: string): boolean {
  return branch.some(error => error.keyword === 'type' && error.instancePath === instancePath)
}

function toProblem(error: ErrorObject): SchemaProblem {
  const path = pathOf(error.instancePath)
  const schema = error.parentSchema as { title?: string; enum?: string[]; properties?: object }
  const { params } = error
  switch (error.keyword) {
    case 'additionalProperties': {
      const key = params['additionalProperty'] as string
      const known = Object.keys(schema.properties ?? {})
      const hint = didYouMean(key, known) || `; known here: ${known.join(', ')}`
      return { path: [...path, key], atKey: true, message: `unknown setting${hint}` }
    }
    case 'required':
      return {
        path: [...path, params['missingProperty'] as string],
        atKey: true,
        message: 'is missing; add it here',
      }
    case 'enum':
      return { path, atKey: false, message: enumMessage(error.data, schema.enum ?? []) }
    case 'const':
      return {
        path,
        atKey: false,
        message: `this entra-proxy reads version ${params['allowedValue']} of the format, not ${show(error.data)}`,
      }
    case 'pattern':
      return { path, atKey: false, message: `${show(error.data)} is not a ${schema.title}` }
    case 'type':
      return { path, atKey: false, message: typeMessage(String(params['type']), error.data) }
    case 'anyOf':
      return { path, atKey: false, message: typeMessage(shapesOf(error), error.data) }
    case 'minLength':
    case 'minItems':
      return { path, atKey: false, message: 'must not be empty; remove it or give it a value' }
    case 'uniqueItems':
      return {
        path: [...path, Math.max(params['i'] as number, params['j'] as number)],
        atKey: false,
        message: 'is listed twice; remove one',
      }
    case 'minimum':
      return { path, atKey: false, message: `must be at least ${params['limit']}, not ${show(error.data)}` }
    default:
      return { path, atKey: false, message: error.message ?? error.keyword }
  }
}

function enumMessage(data: unknown, values: readonly string[]): string {
  if (typeof data !== 'string') return typeMessage('string', data)
  return `${show(data)} is not one of ${values.join(', ')}${didYouMean(data, values)}`
}

function shapesOf(error: ErrorObject): string {
  return (error.schema as { type?: string }[]).map(shape => shape.type ?? '').join(' or ')
}

const ARTICLES: Readonly<Record<string, string>> = {
  array: 'a list',
  boolean: 'true or false',
  integer: 'a whole number',
  number: 'a number',
  object: 'a mapping of settings',
  string: 'text',
}

function typeMessage(types: string, data: unknown): string {
  const wanted = types.split(' or ').map(type => ARTICLES[type] ?? type)
  const isPlain = typeof data === 'number' || typeof data === 'boolean'
  const quote = types.includes('string') && isPlain ? `; put it in quotes: "${data}"` : ''
  const unquote =
    !types.includes('string') && typeof data === 'string' ? `; write it without quotes and without \${…}` : ''
  return `must be ${wanted.join(' or ')}, not ${describe(data)}${quote}${unquote}`
}

function describe(data: unknown): string {
  if (data === null || data === undefined) return 'empty'
  if (Array.isArray(data)) return 'a list'
  return typeof data === 'object' ? 'a mapping' : show(data)
}

function show(data: unknown): string {
  const text = JSON.stringify(data) ?? String(data)
  return text.length > 80 ? `${text.slice(0, 76)}…"` : text
}

/** The keys of a JSON pointer; what looks like an index becomes a number. */
function pathOf(pointer: string): (string | number)[] {
  return pointer
    .split('/')
    .slice(1)
    .map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map(part => (/^\d+$/.test(part) ? Number(part) : part))
}

/** What a route that cannot be understood is replaced with; nobody reads it. */
const LOST_ROUTE = { upstream: 'https://lost.invalid' }

/** The document without what `error` is about; an item that cannot go alone takes its list with it. */
function prune(document: unknown, error: ErrorObject, lostRoutes: Set<number>): unknown {
  const path = pathOf(error.instancePath)
  if (error.keyword === 'additionalProperties') path.push(error.params['additionalProperty'] as string)
  return remove(document, path, lostRoutes)
}

function remove(document: unknown, path: ConfigPath, lostRoutes: Set<number>): unknown {
  const key = path.at(-1)
  if (key === undefined) return {}
  const parent = path.slice(0, -1).reduce<unknown>((value, part) => Object(value)[part], document)
  if (!Array.isArray(parent)) {
    if (typeof parent === 'object' && parent !== null) Reflect.deleteProperty(parent, key)
    return document
  }
  if (path[0] !== 'routes' || path.length > 2) return remove(document, path.slice(0, -1), lostRoutes)
  lostRoutes.add(Number(key))
  parent[Number(key)] = { ...LOST_ROUTE }
  return document
}

type JsonSchema = Record<string, unknown>

/**
 * The schema for editors, JSON Schema draft-07. Unlike the one the file is checked with, it does not
 * require keys that have a default (TypeBox marks those as required), and it lets a `${…}` stand where
 * the text will have a fixed form only after it is expanded.
 */
export function jsonSchema(): JsonSchema {
  const { title, description, ...rest } = forEditors(JSON.parse(JSON.stringify(ConfigFile)) as JsonSchema)
  return { $schema: 'http://json-schema.org/draft-07/schema#', title, description, ...rest }
}

function forEditors(schema: JsonSchema): JsonSchema {
  const result: JsonSchema = {}
  for (const [key, value] of Object.entries(schema)) {
    if (key === 'required') {
      const properties = (schema['properties'] ?? {}) as Record<string, JsonSchema>
      const required = (value as string[]).filter(name => properties[name]?.['default'] === undefined)
      if (required.length > 0) result[key] = required
    } else if (key === 'pattern') {
      result[key] = `${value}|\\$\\{`
    } else if (key === 'enum') {
      result['anyOf'] = [{ enum: value }, { pattern: '\\$\\{' }]
    } else if (key === 'properties' || key === 'patternProperties') {
      result[key] = Object.fromEntries(
        Object.entries(value as Record<string, JsonSchema>).map(([name, sub]) => [name, forEditors(sub)]),
      )
    } else if (key === 'items') {
      result[key] = forEditors(value as JsonSchema)
    } else if (key === 'anyOf') {
      result[key] = (value as JsonSchema[]).map(forEditors)
    } else {
      result[key] = value
    }
  }
  return result
}
