// The admin listener, on a port of its own, since every path of the gateway's port is the upstream's.
// Peers from elsewhere (kubelet, Prometheus) reach health and metrics only.

import type { AddressInfo } from 'node:net'
import fastify, { type FastifyReply } from 'fastify'
import { isLoopbackHost } from '../config/address.ts'
import type { ListenAddress } from '../config/config.ts'
import { CommandError, EXIT } from '../errors.ts'
import { answerLive, answerReady, answerStarted, type Health, type HealthAnswer } from './health.ts'
import type { Metrics } from './metrics.ts'

export interface AdminOptions {
  readonly listen: Extract<ListenAddress, { kind: 'tcp' }>
  readonly health: Health
  /** Undefined when the configuration turns metrics off. */
  readonly metrics: Metrics | undefined
  readonly now: () => number
}

export interface AdminServer {
  /** `http://localhost:8657` */
  readonly url: string
  close(): Promise<void>
}

/** Throws a CommandError (exit 6) when the port is taken. */
export async function openAdmin({ listen, health, metrics, now }: AdminOptions): Promise<AdminServer> {
  const app = fastify({
    logger: false,
    forceCloseConnections: true,
    http: { maxHeaderSize: 16_384 },
  })
  const send = (reply: FastifyReply, { status, body }: HealthAnswer) =>
    reply.code(status).header('cache-control', 'no-store').type('text/plain; charset=utf-8').send(body)

  app.get('/livez', (_request, reply) => send(reply, answerLive()))
  app.get('/startupz', (_request, reply) => send(reply, answerStarted(health)))
  app.get<{ Querystring: { verbose?: string } }>('/readyz', (request, reply) =>
    send(reply, answerReady(health, request.query.verbose !== undefined, now())),
  )
  if (metrics !== undefined) {
    app.get('/metrics', async (_request, reply) =>
      reply.type(metrics.contentType).send(await metrics.render()),
    )
  }
  app.setNotFoundHandler((_request, reply) =>
    reply
      .code(404)
      .type('text/plain; charset=utf-8')
      .send(
        `Not found. Here are /livez, /startupz, /readyz${metrics === undefined ? '' : ' and /metrics'}.\n`,
      ),
  )
  try {
    await app.listen({ host: listen.host, port: listen.port })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const where = `${listen.host}:${listen.port}`
    throw code === 'EADDRINUSE'
      ? new CommandError(
          EXIT.addressInUse,
          `the admin port ${where} is already in use`,
          'Stop the program that holds it, choose another with --admin-listen HOST:PORT (port 0 takes a free one), or turn it off with --admin-listen off.',
          { cause: error },
        )
      : new CommandError(
          EXIT.failure,
          `cannot open the admin port ${where}: ${code ?? String(error)}`,
          'Check the address with --admin-listen HOST:PORT.',
          { cause: error },
        )
  }
  const { port } = app.server.address() as AddressInfo
  const shown = isLoopbackHost(listen.host) ? 'localhost' : listen.host
  return { url: `http://${shown}:${port}`, close: () => app.close() }
}
