// What is known of Azure services: the presets (defaults per kind of service), and which hosts may be
// sent a token of which audience. Hosts are compared label by label, so that a name which merely
// contains a known one (`batch.azure.com.evil.example`, `evilbatch.azure.com`) matches nothing.

import { portOf } from './address.ts'
import type { PresetName, RewriteLinks, Upstream } from './config.ts'

export interface Preset {
  /** `*` stands for exactly one label. Empty: any host. */
  readonly hosts: readonly string[]
  /** Absent: the route has to name its scope. */
  readonly scope?: string
  /** The `aud` of a token for `scope`. */
  readonly audience?: string
  readonly rewriteLinks: RewriteLinks
  readonly responseTimeoutMs: number
  /** Which request id headers the service reads, if any: Batch has a pair of its own. */
  readonly requestId: 'batch' | 'ms' | undefined
}

const FIVE_MINUTES_MS = 300_000

const ML_HOSTS = ['*.*.inference.ml.azure.com']
const ML_TOKEN = { scope: 'https://ml.azure.com/.default', audience: 'https://ml.azure.com' } as const

/** Public cloud. Hosts and scopes: learn.microsoft.com, "Azure Batch authentication" and "Authenticate to endpoints". */
export const PRESETS: Readonly<Record<PresetName, Preset>> = {
  batch: {
    hosts: ['*.*.batch.azure.com'],
    // Two slashes: the audience ends in one, and Batch compares it exactly (azure-sdk-for-net #8026).
    scope: 'https://batch.core.windows.net//.default',
    audience: 'https://batch.core.windows.net/',
    rewriteLinks: 'headers+json',
    responseTimeoutMs: 60_000,
    requestId: 'batch',
  },
  'ml-online': {
    hosts: ML_HOSTS,
    ...ML_TOKEN,
    rewriteLinks: 'headers',
    // The service itself gives up after 180 s.
    responseTimeoutMs: 180_000,
    requestId: 'ms',
  },
  'ml-batch': {
    hosts: ML_HOSTS,
    ...ML_TOKEN,
    rewriteLinks: 'headers+json',
    responseTimeoutMs: FIVE_MINUTES_MS,
    requestId: 'ms',
  },
  arm: {
    hosts: ['management.azure.com', '*.management.azure.com'],
    scope: 'https://management.azure.com/.default',
    audience: 'https://management.azure.com',
    rewriteLinks: 'headers+json',
    responseTimeoutMs: FIVE_MINUTES_MS,
    requestId: 'ms',
  },
  custom: {
    hosts: [],
    rewriteLinks: 'headers+json',
    responseTimeoutMs: FIVE_MINUTES_MS,
    requestId: undefined,
  },
}

export const PRESET_NAMES = Object.keys(PRESETS) as readonly PresetName[]

/** The preset an upstream's host speaks for; `custom` when it speaks for none. */
export function recognisePreset(upstream: Upstream): PresetName {
  if (!isStandardPort(upstream)) return 'custom'
  if (matchesHost(upstream.hostname, PRESETS.batch.hosts)) return 'batch'
  if (matchesHost(upstream.hostname, PRESETS.arm.hosts)) return 'arm'
  if (!matchesHost(upstream.hostname, ML_HOSTS)) return 'custom'
  // Batch endpoints are invoked at …/jobs (learn.microsoft.com, "Batch endpoints: invoke with REST").
  return upstream.basePath === '/jobs' || upstream.basePath.endsWith('/jobs') ? 'ml-batch' : 'ml-online'
}

/** A resource Entra issues tokens for, and the hosts that are its own. */
export interface Audience {
  readonly service: string
  /** What a scope names: host names (`*` one label) or application ids. */
  readonly resources: readonly string[]
  readonly hosts: readonly string[]
  /** The scope to ask for when it is the same for all hosts. */
  readonly scope?: string
}

/**
 * The audiences a token must not leave for another host. Not every Azure service: those whose tokens
 * are worth stealing. Sources: `azure-cli` and `go-azure-sdk` environment tables, the services' pages
 * on learn.microsoft.com; the application ids are the first-party ones Entra lists for each service.
 */
export const AUDIENCES: readonly Audience[] = [
  {
    service: 'Azure Batch',
    resources: ['batch.core.windows.net', 'ddbf3205-c6bd-46ae-8127-60eb93363864'],
    hosts: ['*.*.batch.azure.com'],
    scope: 'https://batch.core.windows.net//.default',
  },
  {
    service: 'Azure Batch (US Government)',
    resources: ['batch.core.usgovcloudapi.net'],
    hosts: ['*.*.batch.usgovcloudapi.net'],
    scope: 'https://batch.core.usgovcloudapi.net//.default',
  },
  {
    service: 'Azure Batch (China)',
    resources: ['batch.chinacloudapi.cn'],
    hosts: ['*.*.batch.chinacloudapi.cn'],
    scope: 'https://batch.chinacloudapi.cn//.default',
  },
  {
    service: 'Azure Machine Learning',
    resources: ['ml.azure.com', '18a66f5f-dbdf-4c17-9dd7-1634712a9cbe'],
    hosts: ['*.*.inference.ml.azure.com', '*.api.azureml.ms'],
    scope: 'https://ml.azure.com/.default',
  },
  {
    service: 'Azure Machine Learning (US Government)',
    resources: ['ml.azure.us'],
    hosts: ['*.*.inference.ml.azure.us', '*.api.ml.azure.us'],
    scope: 'https://ml.azure.us/.default',
  },
  {
    service: 'Azure Machine Learning (China)',
    resources: ['ml.azure.cn'],
    hosts: ['*.*.inference.ml.azure.cn', '*.api.ml.azure.cn'],
    scope: 'https://ml.azure.cn/.default',
  },
  {
    service: 'Azure Resource Manager',
    resources: [
      'management.azure.com',
      'management.core.windows.net',
      '797f4846-ba00-4fd7-ba43-dac1f8f63013',
    ],
    hosts: ['management.azure.com', '*.management.azure.com'],
    scope: 'https://management.azure.com/.default',
  },
  {
    service: 'Azure Resource Manager (US Government)',
    resources: ['management.usgovcloudapi.net', 'management.core.usgovcloudapi.net'],
    hosts: ['management.usgovcloudapi.net', '*.management.usgovcloudapi.net'],
    scope: 'https://management.usgovcloudapi.net/.default',
  },
  {
    service: 'Azure Resource Manager (China)',
    resources: ['management.chinacloudapi.cn', 'management.core.chinacloudapi.cn'],
    hosts: ['management.chinacloudapi.cn', '*.management.chinacloudapi.cn'],
    scope: 'https://management.chinacloudapi.cn/.default',
  },
  {
    service: 'Azure Storage',
    resources: [
      'storage.azure.com',
      'e406a681-f3d4-42a8-90b6-c2b029497af1',
      ...storageHosts('core.windows.net'),
      ...storageHosts('core.usgovcloudapi.net'),
      ...storageHosts('core.chinacloudapi.cn'),
    ],
    hosts: [
      ...storageHosts('core.windows.net'),
      ...storageHosts('core.usgovcloudapi.net'),
      ...storageHosts('core.chinacloudapi.cn'),
    ],
    scope: 'https://storage.azure.com/.default',
  },
  {
    service: 'Key Vault',
    resources: ['vault.azure.net', 'cfa8b339-82a2-471a-a3c9-0fc0be7a4093'],
    hosts: ['*.vault.azure.net'],
    scope: 'https://vault.azure.net/.default',
  },
  {
    service: 'Key Vault (US Government)',
    resources: ['vault.usgovcloudapi.net'],
    hosts: ['*.vault.usgovcloudapi.net'],
    scope: 'https://vault.usgovcloudapi.net/.default',
  },
  {
    service: 'Key Vault (China)',
    resources: ['vault.azure.cn'],
    hosts: ['*.vault.azure.cn'],
    scope: 'https://vault.azure.cn/.default',
  },
  {
    service: 'Managed HSM',
    resources: ['managedhsm.azure.net', 'managedhsm.usgovcloudapi.net', 'managedhsm.azure.cn'],
    hosts: ['*.managedhsm.azure.net', '*.managedhsm.usgovcloudapi.net', '*.managedhsm.azure.cn'],
  },
  {
    service: 'Microsoft Graph',
    resources: ['graph.microsoft.com', '00000003-0000-0000-c000-000000000000'],
    hosts: ['graph.microsoft.com'],
    scope: 'https://graph.microsoft.com/.default',
  },
  {
    service: 'Microsoft Graph (US Government)',
    resources: ['graph.microsoft.us', 'dod-graph.microsoft.us'],
    hosts: ['graph.microsoft.us', 'dod-graph.microsoft.us'],
  },
  {
    service: 'Microsoft Graph (China)',
    resources: ['microsoftgraph.chinacloudapi.cn'],
    hosts: ['microsoftgraph.chinacloudapi.cn'],
    scope: 'https://microsoftgraph.chinacloudapi.cn/.default',
  },
  {
    service: 'Azure AI services',
    resources: ['cognitiveservices.azure.com'],
    hosts: [
      '*.openai.azure.com',
      '*.cognitiveservices.azure.com',
      '*.services.ai.azure.com',
      '*.api.cognitive.microsoft.com',
    ],
    scope: 'https://cognitiveservices.azure.com/.default',
  },
  {
    service: 'Azure AI services (US Government)',
    resources: ['cognitiveservices.azure.us'],
    hosts: ['*.openai.azure.us', '*.cognitiveservices.azure.us'],
    scope: 'https://cognitiveservices.azure.us/.default',
  },
  {
    service: 'Azure AI services (China)',
    resources: ['cognitiveservices.azure.cn'],
    hosts: ['*.openai.azure.cn', '*.cognitiveservices.azure.cn'],
    scope: 'https://cognitiveservices.azure.cn/.default',
  },
  { service: 'Azure AI Foundry', resources: ['ai.azure.com'], hosts: ['*.services.ai.azure.com'] },
  {
    service: 'Azure Monitor workspaces',
    resources: ['prometheus.monitor.azure.com'],
    hosts: ['*.*.prometheus.monitor.azure.com'],
    scope: 'https://prometheus.monitor.azure.com/.default',
  },
  {
    service: 'Log Analytics',
    resources: ['api.loganalytics.io', 'api.loganalytics.azure.com'],
    hosts: ['api.loganalytics.io', 'api.loganalytics.azure.com'],
    scope: 'https://api.loganalytics.io/.default',
  },
  {
    service: 'Application Insights',
    resources: ['api.applicationinsights.io'],
    hosts: ['api.applicationinsights.io'],
    scope: 'https://api.applicationinsights.io/.default',
  },
  {
    service: 'Azure Monitor ingestion',
    resources: ['monitor.azure.com'],
    hosts: ['*.ingest.monitor.azure.com', '*.*.ingest.monitor.azure.com'],
    scope: 'https://monitor.azure.com/.default',
  },
  {
    service: 'Service Bus and Event Hubs',
    resources: ['servicebus.azure.net', 'eventhubs.azure.net', '*.servicebus.windows.net'],
    hosts: ['*.servicebus.windows.net'],
  },
  {
    service: 'App Configuration',
    resources: ['appconfig.azure.com', 'azconfig.io', '*.azconfig.io'],
    hosts: ['*.azconfig.io'],
    scope: 'https://appconfig.azure.com/.default',
  },
  {
    service: 'AI Search',
    resources: ['search.azure.com'],
    hosts: ['*.search.windows.net'],
    scope: 'https://search.azure.com/.default',
  },
  {
    service: 'Azure Databricks',
    resources: ['2ff814a6-3304-4ab8-85cb-cd0e6f879c1d'],
    hosts: ['*.azuredatabricks.net', '*.*.azuredatabricks.net'],
    scope: '2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default',
  },
  {
    service: 'Azure Synapse',
    resources: ['dev.azuresynapse.net'],
    hosts: ['*.dev.azuresynapse.net'],
    scope: 'https://dev.azuresynapse.net/.default',
  },
  {
    service: 'Azure Data Explorer',
    resources: ['kusto.kusto.windows.net', '*.*.kusto.windows.net'],
    hosts: ['*.*.kusto.windows.net'],
  },
  {
    service: 'Azure DevOps',
    resources: ['499b84ac-1321-427f-aa17-267ca6975798'],
    hosts: ['dev.azure.com', '*.dev.azure.com', '*.visualstudio.com'],
    scope: '499b84ac-1321-427f-aa17-267ca6975798/.default',
  },
  {
    service: 'Microsoft Fabric',
    resources: ['api.fabric.microsoft.com'],
    hosts: ['api.fabric.microsoft.com'],
    scope: 'https://api.fabric.microsoft.com/.default',
  },
  {
    service: 'Cosmos DB',
    resources: ['cosmos.azure.com', '*.documents.azure.com'],
    hosts: ['*.documents.azure.com', '*.*.documents.azure.com'],
  },
  {
    service: 'Container Registry',
    resources: ['containerregistry.azure.net'],
    hosts: ['*.azurecr.io'],
  },
]

/** The known audience a scope asks a token of, whatever its slashes, port and case. */
export function audienceOfScope(scope: string): Audience | undefined {
  const resource = /^(?:[a-z][a-z0-9+.-]*:\/\/)?([^/?#:@]*)/.exec(scope.toLowerCase())?.[1] ?? ''
  return AUDIENCES.find(audience => matchesHost(resource.replace(/\.$/, ''), audience.resources))
}

/** The known audience a host belongs to. */
export function audienceOfHost(hostname: string): Audience | undefined {
  return AUDIENCES.find(audience => matchesHost(hostname, audience.hosts))
}

/** True when the upstream is the service's own: a host of its table, over TLS on port 443. */
export function isOwnHost(upstream: Upstream, hosts: readonly string[]): boolean {
  return isStandardPort(upstream) && matchesHost(upstream.hostname, hosts)
}

/** HTTPS on 443, where every known Azure host answers. */
export function isStandardPort(upstream: Upstream): boolean {
  return upstream.origin.startsWith('https:') && portOf(upstream) === 443
}

function matchesHost(hostname: string, patterns: readonly string[]): boolean {
  const labels = hostname.split('.')
  return patterns.some(pattern => {
    const wanted = pattern.split('.')
    return (
      wanted.length === labels.length &&
      wanted.every((label, i) => (label === '*' ? /^[a-z0-9-]+$/.test(labels[i]!) : label === labels[i]))
    )
  })
}

/** One host per account and kind of data. */
function storageHosts(suffix: string): string[] {
  return ['blob', 'queue', 'table', 'file', 'dfs'].map(service => `*.${service}.${suffix}`)
}
