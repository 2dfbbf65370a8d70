// The way of a request, top to bottom: guard, route, target, headers, token, forward. Each step is one
// call, and each failure one coded error. Only what is needed per request happens here.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Token } from '../auth/token.ts'
import { GatewayError } from '../errors.ts'
import type { Guard } from '../guard.ts'
import type { ListenerFacts } from '../listener.ts'
import { hasBody, RequestBody } from './body.ts'
import { Exchange, type Observer } from './exchange.ts'
import { forward, type Outbound } from './forward.ts'
import { outboundHeaders } from './headers.ts'
import { checkMethod, type Route, type RouteTable, resolveTarget } from './route.ts'
import { splitTarget } from './target.ts'

export interface HandlerParts {
  readonly guard: Guard
  /** The table in force; a reload swaps it. */
  readonly table: () => RouteTable
  /** The main listener's scheme and port, which links to other routes lead to. */
  readonly main: () => ListenerFacts
  readonly observe: Observer
  readonly begun: () => void
}

export type Handler = (request: IncomingMessage, response: ServerResponse, at: ListenerFacts) => void

/** Makes the function every gateway listener hands its requests to. It never throws. */
export function createHandler({ guard, table, main, observe, begun }: HandlerParts): Handler {
  return function handle(request, response, at) {
    const exchange = new Exchange(request, response, observe)
    begun()
    try {
      if (guard.admit(exchange, at)) return
      locate(exchange, at, main())
      const target = splitTarget(exchange.url)
      const route = findRoute(table(), target.path, at)
      exchange.route = route
      checkMethod(route, request.method!)
      const path = resolveTarget(route, target, at.routeName !== undefined)
      if (hasBody(request)) exchange.body = new RequestBody(request, route.config.limits.maxBodyBytes)
      const headers = outboundHeaders(request.rawHeaders, route.headers, exchange.id, '')
      enter({ exchange, route, method: request.method as Outbound['method'], path, headers })
    } catch (error) {
      exchange.fail(error)
    }
  }
}

function findRoute(table: RouteTable, path: string, at: ListenerFacts): Route {
  if (at.routeName === undefined) return table.match(path)
  const own = table.named(at.routeName)
  if (own !== undefined) return own
  throw new GatewayError(
    'no_route',
    `Route ${at.routeName} is no longer configured.`,
    'Restart the gateway to close its port.',
  )
}

/** Which base URLs lead this client back to us. */
function locate(exchange: Exchange, at: ListenerFacts, main: ListenerFacts): void {
  if (at.routeName === undefined) {
    exchange.gatewayBase = `${at.scheme}://${exchange.host}${exchange.keyPrefix}`
    return
  }
  exchange.ownPortBase = `${at.scheme}://${exchange.host}${exchange.keyPrefix}`
  exchange.gatewayBase = `${main.scheme}://${exchange.host.replace(/:\d+$/, '')}:${main.port}${exchange.keyPrefix}`
}

/** Takes a place on the route, at once or in its queue. */
function enter(outbound: Outbound): void {
  const { admission } = outbound.route
  const { exchange } = outbound
  const { response } = exchange
  const admitted = () => {
    response.once('close', () => admission.leave())
    authorize(outbound)
  }
  if (admission.enter()) {
    admitted()
    return
  }
  const giveUp = admission.wait(
    () => {
      response.off('close', giveUp)
      admitted()
    },
    error => {
      response.off('close', giveUp)
      exchange.fail(error)
    },
  )
  response.once('close', giveUp)
}

/** No token, no upstream request. */
function authorize(outbound: Outbound): void {
  const { exchange, route } = outbound
  let token: Token | Promise<Token>
  try {
    token = route.tokens.current()
  } catch (error) {
    exchange.fail(error)
    return
  }
  if (!(token instanceof Promise)) {
    forward(outbound, token)
    return
  }
  const asked = performance.now()
  token.then(
    acquired => {
      exchange.tokenMs = performance.now() - asked
      if (!exchange.response.destroyed) forward(outbound, acquired)
    },
    error => {
      exchange.tokenMs = performance.now() - asked
      exchange.fail(error)
    },
  )
}
