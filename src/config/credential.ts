// The credential part of the file: which settings each type takes, and which it cannot do without.

import type { CredentialConfig, CredentialType } from './config.ts'
import type { Environment } from './flags.ts'
import type { ConfigPath, Report } from './problems.ts'
import type { CredentialDocument } from './schema.ts'

type CredentialKey = Exclude<keyof CredentialConfig, 'type'>

interface Shape {
  readonly needs: readonly CredentialKey[]
  readonly takes: readonly CredentialKey[]
}

const SHAPES: Readonly<Record<CredentialType, Shape>> = {
  auto: { needs: [], takes: ['tenantId', 'clientId', 'resourceId', 'objectId', 'authorityHost'] },
  environment: { needs: [], takes: ['authorityHost'] },
  'workload-identity': { needs: [], takes: ['tenantId', 'clientId', 'tokenFile', 'authorityHost'] },
  'managed-identity': { needs: [], takes: ['clientId', 'resourceId', 'objectId'] },
  'client-secret': { needs: ['tenantId', 'clientId', 'clientSecretFile'], takes: ['authorityHost'] },
  'azure-cli': { needs: [], takes: ['tenantId'] },
  'azure-developer-cli': { needs: [], takes: ['tenantId'] },
  'azure-powershell': { needs: [], takes: ['tenantId'] },
  static: { needs: ['tokenFile'], takes: [] },
}

/** What to use in place of the types that are known but not there yet. */
const UNAVAILABLE: Readonly<Record<string, string>> = {
  'client-certificate': 'use client-secret, workload-identity or managed-identity',
  browser: 'sign in with `az login` and use azure-cli',
  'device-code': 'sign in with `az login --use-device-code` and use azure-cli',
}

const FILE_KEYS: readonly string[] = ['clientSecretFile', 'tokenFile']

/** What the identity library takes from the environment when the file does not say it. */
const FROM_ENVIRONMENT: { readonly [K in CredentialKey]?: string } = {
  tenantId: 'AZURE_TENANT_ID',
  clientId: 'AZURE_CLIENT_ID',
  clientSecretFile: 'AZURE_CLIENT_SECRET',
}

export interface CredentialSurroundings {
  readonly env: Environment
  /** Makes a file name absolute. */
  readonly file: (name: string) => string
  readonly report: Report
}

/** The credential of one place of the file, its file names absolute. */
export function resolveCredential(
  document: CredentialDocument,
  at: ConfigPath,
  { env, file, report }: CredentialSurroundings,
): CredentialConfig {
  const settings = typeof document === 'string' ? { type: document } : document
  const atType = typeof document === 'string' ? at : [...at, 'type']
  const { type, ...given } = settings
  const alternative = UNAVAILABLE[type]
  if (alternative !== undefined) {
    report(atType, `${type} is not available in this version; ${alternative}`)
    return { type: 'auto' }
  }
  const shape = SHAPES[type as CredentialType]
  const known: readonly string[] = [...shape.needs, ...shape.takes]
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue
    const takes = known.length === 0 ? 'nothing besides its type' : known.join(', ')
    report([...at, key], `credential ${type} does not take it; remove it (it takes ${takes})`, {
      atKey: true,
    })
  }
  for (const key of shape.needs) {
    const variable = FROM_ENVIRONMENT[key]
    if (key in given || (variable !== undefined && env[variable])) continue
    const elsewhere = variable === undefined ? '' : `, or set ${variable}`
    report([...at, key], `credential ${type} needs ${key}; add it here${elsewhere}`, { atKey: true })
  }
  checkIdentity(settings, at, report)
  return {
    type: type as CredentialType,
    ...Object.fromEntries(
      Object.entries(given).map(([key, value]) => [key, FILE_KEYS.includes(key) ? file(value) : value]),
    ),
  }
}

type CredentialSettings = Exclude<CredentialDocument, string>

function checkIdentity(settings: CredentialSettings, at: ConfigPath, report: Report): void {
  const { type, tenantId, authorityHost } = settings
  const ids = (['clientId', 'resourceId', 'objectId'] as const).filter(key => settings[key] !== undefined)
  if (ids.length > 1 && type !== 'client-secret') {
    report([...at, ids[1]!], `one identity cannot be named by both ${ids.join(' and ')}; keep one of them`, {
      atKey: true,
    })
  }
  if (tenantId !== undefined && !/^[A-Za-z0-9.-]+$/.test(tenantId)) {
    report(
      [...at, 'tenantId'],
      `"${tenantId}" is not a tenant; write its id or a domain such as contoso.onmicrosoft.com`,
    )
  } else if (
    (type === 'client-secret' || type === 'workload-identity') &&
    /^(common|organizations|consumers)$/i.test(tenantId ?? '')
  ) {
    report(
      [...at, 'tenantId'],
      `an application signs in to one tenant, not to "${tenantId}"; write the tenant's id`,
    )
  }
  // RFC 6749 section 3.2: the token endpoint is only ever called over TLS.
  if (authorityHost !== undefined && !/^https:\/\/[^/?#@\s\\]+\/?$/i.test(authorityHost)) {
    report(
      [...at, 'authorityHost'],
      `"${authorityHost}" is not the address of an authority; write https://host, such as https://login.microsoftonline.us`,
    )
  }
}
