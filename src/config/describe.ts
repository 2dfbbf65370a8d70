// The configuration in force as plain values for one log line: everything that helps to understand what
// runs, nothing that could be a secret (header and query values are left out, only their names stay).

import { formatListen, formatUpstream } from './address.ts'
import type { Config, RouteConfig } from './config.ts'
import { formatDuration, formatSize } from './units.ts'

/** A plain object, safe to log. */
export function describeConfig(config: Config): Record<string, unknown> {
  const { admin, security } = config
  return {
    file: config.file ?? null,
    listen: config.listen.map(formatListen),
    admin: admin.listen === undefined ? 'off' : formatListen(admin.listen),
    metrics: admin.metrics,
    routes: config.routes.map(describeRoute),
    token: {
      refreshBefore: formatDuration(config.token.refreshBeforeMs),
      timeout: formatDuration(config.token.timeoutMs),
    },
    outbound: config.outbound,
    tls: config.tls !== undefined,
    security: { ...security, clientKey: security.clientKey !== undefined },
    log: config.log,
    grace: formatDuration(config.shutdown.graceMs),
  }
}

function describeRoute(route: RouteConfig): Record<string, unknown> {
  const { timeouts, limits, requestHeaders, responseHeaders } = route
  return {
    name: route.name,
    path: route.path,
    ...(route.listen && { listen: formatListen(route.listen) }),
    upstream: formatUpstream(route.upstream),
    preset: route.preset,
    scope: route.scope,
    credential: route.credential,
    ...(route.methods && { methods: route.methods }),
    ...(route.paths && { paths: route.paths }),
    query: Object.keys(route.query),
    requestHeaders: { set: Object.keys(requestHeaders.set), remove: requestHeaders.remove },
    responseHeaders: { set: Object.keys(responseHeaders.set), remove: responseHeaders.remove },
    rewriteLinks: route.rewriteLinks,
    trustUpstream: route.trustUpstream,
    timeouts: {
      connect: formatDuration(timeouts.connectMs),
      response: formatDuration(timeouts.responseMs),
      idle: formatDuration(timeouts.idleMs),
    },
    limits: {
      maxConcurrent: limits.maxConcurrent,
      maxQueue: limits.maxQueue,
      queueTimeout: formatDuration(limits.queueTimeoutMs),
      maxBody: formatSize(limits.maxBodyBytes),
    },
  }
}
