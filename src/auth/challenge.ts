// Reads WWW-Authenticate (RFC 9110 section 11.6.1): the header may hold several challenges, in one line or
// in many, and is whatever an upstream chose to send. Nothing here throws.

export interface Challenge {
  /** Lower case. */
  readonly scheme: string
  /** Names in lower case; of a repeated name the first value counts. */
  readonly params: ReadonlyMap<string, string>
}

const TOKEN_CHARACTER = /[!#$%&'*+\-.^_`|~0-9A-Za-z]/

/** The challenges in all `values` of the header, in order. Parts that are not a challenge are skipped. */
export function parseChallenges(values: readonly string[]): Challenge[] {
  return values.flatMap(value => new ChallengeReader(value).read())
}

/**
 * The claims an `insufficient_claims` challenge asks for, decoded to the text of a JSON object, or undefined.
 * The identity library silently ignores claims in any other form.
 */
export function requestedClaims(values: readonly string[]): string | undefined {
  for (const { scheme, params } of parseChallenges(values)) {
    const encoded = params.get('claims')
    if (scheme !== 'bearer' || params.get('error') !== 'insufficient_claims' || encoded === undefined)
      continue
    const claims = Buffer.from(encoded, 'base64').toString('utf8')
    if (isJsonObject(claims)) return claims
  }
  return undefined
}

function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text)
    return (
      typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0
    )
  } catch {
    return false
  }
}

/** One pass from left to right, so that the time is linear in the length whatever the text. */
class ChallengeReader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  read(): Challenge[] {
    const challenges: { scheme: string; params: Map<string, string> }[] = []
    while (this.#at < this.#text.length) {
      const name = this.#token().toLowerCase()
      if (name === '') {
        this.#at++
        continue
      }
      const afterName = this.#at
      this.#spaces()
      const challenge = challenges.at(-1)
      if (challenge !== undefined && this.#text[this.#at] === '=') {
        this.#at++
        this.#spaces()
        const value = this.#value()
        if (!challenge.params.has(name)) challenge.params.set(name, value)
        continue
      }
      // A name without `=` opens a challenge; what follows it in token68 form (RFC 9110 section 11.2) is not
      // of interest, only to be stepped over.
      challenges.push({ scheme: name, params: new Map() })
      if (this.#at > afterName) this.#token68()
    }
    return challenges
  }

  #token(): string {
    const start = this.#at
    while (this.#at < this.#text.length && TOKEN_CHARACTER.test(this.#text[this.#at]!)) this.#at++
    return this.#text.slice(start, this.#at)
  }

  #spaces(): void {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#at++
  }

  #token68(): void {
    const match = /[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)/y
    match.lastIndex = this.#at
    if (match.test(this.#text)) this.#at = match.lastIndex
  }

  #value(): string {
    if (this.#text[this.#at] !== '"') return this.#token()
    this.#at++
    let value = ''
    while (this.#at < this.#text.length) {
      const character = this.#text[this.#at++]!
      if (character === '"') return value
      value += character === '\\' ? (this.#text[this.#at++] ?? '') : character
    }
    return value
  }
}
