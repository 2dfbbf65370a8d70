// The credential `auto`: tries the library's default order once, stays with the first that yields a token, and
// remembers why the others lost. The library's own chain starts over at each call and hides the reasons.

import type { Clock } from '../clock.ts'
import type { CredentialType } from '../config/config.ts'
import { checkAnswer } from './access-token.ts'
import type { AcquiredToken, AcquireOptions, Credential } from './credential.ts'
import { classifyFailure, type FailureKind, TokenFailure } from './failures.ts'

export interface Candidate {
  readonly credential: Credential
  /** A cheap check before the real attempt: resolves to why it is not worth one, or to undefined. */
  readonly precheck?: (() => Promise<string | undefined>) | undefined
}

export interface AutoCredentialOptions {
  readonly key: string
  /** In the order in which they are tried. */
  readonly candidates: readonly Candidate[]
  readonly clock: Clock
  /** The longest one candidate may take. */
  readonly candidateTimeoutMs: number
}

interface Loss {
  readonly type: CredentialType
  readonly failure: TokenFailure
}

export class AutoCredential implements Credential {
  readonly type = 'auto'
  readonly key: string
  readonly #options: AutoCredentialOptions
  #winner: Credential | null = null
  #losses: readonly Loss[] = []
  #walk: Promise<AcquiredToken> | null = null

  constructor(options: AutoCredentialOptions) {
    this.key = options.key
    this.#options = options
  }

  get label(): string {
    return this.#winner === null ? 'auto' : `${this.#winner.label} (chosen by auto)`
  }

  describe(): readonly string[] {
    return this.#losses.map(({ type, failure }) => `tried: ${type}: ${failure.message}`)
  }

  async acquire(scope: string, options: AcquireOptions = {}): Promise<AcquiredToken> {
    if (this.#winner !== null) return this.#winner.acquire(scope, options)
    if (this.#walk !== null) {
      // Another scope is choosing right now, and the choice is for all of them.
      await this.#walk
      return this.acquire(scope, options)
    }
    const walk = this.#choose(scope, options)
    this.#walk = walk
    try {
      return await walk
    } finally {
      this.#walk = null
    }
  }

  async #choose(scope: string, options: AcquireOptions): Promise<AcquiredToken> {
    const losses: Loss[] = []
    this.#losses = losses
    for (const candidate of this.#options.candidates) {
      const { credential } = candidate
      try {
        const answer = await this.#try(candidate, scope, options)
        this.#winner = credential
        return answer
      } catch (error) {
        const failure = classifyFailure(error, { type: credential.type, scope })
        losses.push({ type: credential.type, failure })
        if (endsTheSearch(credential.type, failure.kind)) throw failure
      }
    }
    throw noneWorked(losses)
  }

  async #try(candidate: Candidate, scope: string, options: AcquireOptions): Promise<AcquiredToken> {
    const { clock, candidateTimeoutMs, candidates } = this.#options
    const { credential, precheck } = candidate
    // With a single candidate its own failure says more than a check.
    const reason = candidates.length > 1 ? await precheck?.() : undefined
    if (reason !== undefined) throw unavailable(reason)
    const answer = await new Promise<AcquiredToken>((resolve, reject) => {
      const cancel = clock.after(candidateTimeoutMs, () =>
        reject(
          classifyFailure(undefined, { type: credential.type, scope, timedOutAfterMs: candidateTimeoutMs }),
        ),
      )
      // A second settlement, after the timeout, is ignored and never unhandled.
      credential.acquire(scope, options).then(resolve, reject).finally(cancel)
    })
    checkAnswer(answer, { scope, now: clock.now() })
    return answer
  }
}

/**
 * A credential configured on purpose must not give way to another identity: never `environment`, as in the
 * library, and not workload identity because of a passing fault, since the winner is kept.
 */
function endsTheSearch(type: CredentialType, kind: FailureKind): boolean {
  if (type === 'environment') return kind !== 'unavailable'
  return type === 'workload-identity' && (kind === 'transient' || kind === 'tls')
}

/** The failure of the candidate that is nearest to working gives the remedy. */
const NEAREST_FIRST: readonly FailureKind[] = [
  'interaction',
  'configuration',
  'tls',
  'transient',
  'unavailable',
]

function noneWorked(losses: readonly Loss[]): TokenFailure {
  const tried = losses.map(({ type, failure }) => `${type}: ${failure.message}`).join('; ')
  const rank = (loss: Loss) => NEAREST_FIRST.indexOf(loss.failure.kind)
  const nearest = [...losses].sort((a, b) => rank(a) - rank(b))[0]?.failure
  const isHopeless = nearest === undefined || nearest.kind === 'unavailable'
  return new TokenFailure({
    kind: nearest?.kind ?? 'unavailable',
    code: 'no_credential',
    detail: `No Azure credential worked. Tried: ${tried}`,
    remedy: isHopeless
      ? 'Sign in with the Azure CLI (az login), or say which credential to use: --credential TYPE, or credential: in the configuration.'
      : `${nearest.remedy} On your own machine, signing in with the Azure CLI is enough: az login`,
    aadsts: nearest?.aadsts,
    retryAfterMs: nearest?.retryAfterMs,
    correlationId: nearest?.correlationId,
    debug: losses.map(({ type, failure }) => `${type}: ${failure.debugText()}`).join('\n'),
  })
}

function unavailable(detail: string): TokenFailure {
  return new TokenFailure({
    kind: 'unavailable',
    code: 'not_available',
    detail,
    remedy: 'Choose another credential.',
  })
}

/** The library's class names, which AZURE_TOKEN_CREDENTIALS uses, and our types, in the library's default order. */
const DEFAULT_ORDER = [
  ['EnvironmentCredential', 'environment'],
  ['WorkloadIdentityCredential', 'workload-identity'],
  ['ManagedIdentityCredential', 'managed-identity'],
  ['AzureCliCredential', 'azure-cli'],
  ['AzurePowerShellCredential', 'azure-powershell'],
  ['AzureDeveloperCliCredential', 'azure-developer-cli'],
] as const

export type CandidateType = (typeof DEFAULT_ORDER)[number][1]

/**
 * Which credentials to try. Throws a TokenFailure for a value that names none.
 *
 * @param setting the value of AZURE_TOKEN_CREDENTIALS: `prod`, `dev` or a class name, in any case
 */
export function candidateTypes(setting: string | undefined): readonly CandidateType[] {
  const wanted = setting?.trim().toLowerCase() ?? ''
  const types = DEFAULT_ORDER.map(([, type]) => type)
  if (wanted === '') return types
  if (wanted === 'prod') return types.slice(0, 3)
  if (wanted === 'dev') return types.slice(3)
  const named = DEFAULT_ORDER.find(([className]) => className.toLowerCase() === wanted)
  if (named !== undefined) return [named[1]]
  throw new TokenFailure({
    kind: 'configuration',
    code: 'unknown_credential',
    detail: 'AZURE_TOKEN_CREDENTIALS names no credential that the gateway knows',
    remedy: `Set it to prod, dev or one of ${DEFAULT_ORDER.map(([className]) => className).join(', ')}, or unset it.`,
  })
}
