// What the way of a request knows of tokens: two methods, nothing of Azure.

/** A usable access token. Its value is written to the wire and nowhere else. */
export interface Token {
  /** The header value, `Bearer …`, made once per token. */
  readonly authorization: string
  /** Epoch milliseconds. */
  readonly expiresAt: number
}

export interface TokenSource {
  /**
   * The current token: at once when a usable one is cached, else a promise.
   * Rejects with a GatewayError `token_unavailable` (with retry-after) when there is none.
   */
  current(): Token | Promise<Token>
  /**
   * The upstream answered 401 to a request that carried `used`. `challenges` are its WWW-Authenticate
   * values. Resolves to a different token worth one replay, or to null. Never rejects.
   */
  rejected(used: Token, challenges: readonly string[]): Promise<Token | null>
}
