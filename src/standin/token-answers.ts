// The answer of a token endpoint, good or spoiled on order; Entra and IMDS share it.

import type { Answer, Exchange } from './exchange.ts'
import { findFault } from './faults.ts'
import type { IssueRequest, TokenClaims, TokenIssuer } from './tokens.ts'

const OTHER_AUDIENCE = 'https://graph.microsoft.com'

/** Issues a token and answers with `fields(claims, lifeSeconds)` plus `access_token`, faults applied. */
export async function answerWithToken(
  exchange: Exchange,
  issuer: TokenIssuer,
  request: IssueRequest,
  fields: (claims: TokenClaims, lifeSeconds: number) => Readonly<Record<string, unknown>>,
): Promise<Answer> {
  const lifeSeconds = findFault(exchange.faults, 'token-life')?.seconds ?? request.lifeSeconds
  const bad = findFault(exchange.faults, 'bad-token')?.answer
  if (bad === 'html') return html
  const audience = bad === 'wrong-audience' ? OTHER_AUDIENCE : request.audience
  const { token, claims } = await issuer.issue({ ...request, audience, lifeSeconds })
  exchange.log.issued()
  const body: Record<string, unknown> = { ...fields(claims, lifeSeconds), access_token: token }
  if (bad === 'empty') body['access_token'] = ''
  if (bad === 'missing') delete body['access_token']
  if (bad === 'crlf') body['access_token'] = `${token}\r\nX-Injected: yes`
  if (bad === 'no-lifetime') for (const name of LIFETIME_FIELDS) delete body[name]
  return json(200, body)
}

const LIFETIME_FIELDS = ['expires_in', 'ext_expires_in', 'expires_on', 'not_before']

const html: Answer = {
  status: 200,
  headers: { 'content-type': 'text/html; charset=utf-8' },
  body: '<!doctype html><title>Sign in</title><h1>Your network wants you to sign in</h1>',
}

/** A JSON answer as token endpoints give it. */
export function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  const text = JSON.stringify(body)
  return {
    status,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store, no-cache',
      pragma: 'no-cache',
      'content-length': String(Buffer.byteLength(text)),
      ...headers,
    },
    body: text,
  }
}
