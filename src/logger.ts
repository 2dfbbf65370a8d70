// What is written down: events through pino, and one access line per request built by hand, since the
// general serialiser would double what a small request costs. Named fields only, never whole headers.

import pino, { type DestinationStream, type Logger } from 'pino'
import type { AccessLog, LogLevel } from './config/config.ts'
import type { Exchange } from './proxy/exchange.ts'

export type { Logger } from 'pino'

export interface LoggerOptions {
  readonly level: LogLevel
  readonly pretty: boolean
  readonly color: boolean
  /** Takes whole lines. */
  readonly destination: DestinationStream
}

export function createLogger({ level, pretty, color, destination }: LoggerOptions): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
    },
    pretty ? { write: line => destination.write(formatEvent(line, color)) } : destination,
  )
}

/** Writes the access line of an exchange, or nothing when the configuration says so. */
export type AccessWriter = (exchange: Exchange) => void

export function createAccessWriter(options: LoggerOptions & { readonly access: AccessLog }): AccessWriter {
  const { access, level, pretty, color, destination } = options
  const silent = access === 'none' || !['trace', 'debug', 'info'].includes(level)
  if (silent && access !== 'errors') return () => {}
  return exchange => {
    if (access === 'errors' && exchange.status < 400 && !exchange.aborted && !exchange.cut) return
    destination.write(pretty ? formatAccess(exchange, color) : accessLine(exchange))
  }
}

const MAX_FIELD = 256
const MAX_PATH = 2048
const SECRET_PAIR = /([?&](?:sig|key|code|token|secret|password|subscription-key)=)[^&]*/gi
/** A client key in the path, right or wrong, in its place or not. */
const KEY_SEGMENT = /^\/~[^/?]*|\/~[^/?]{16,}/g

/** The path and query as they may be shown: secrets masked, length capped. */
export function maskUrl(url: string): string {
  let masked = url
  if (masked.includes('/~')) masked = masked.replace(KEY_SEGMENT, '/~***')
  if (masked.includes('=')) masked = masked.replace(SECRET_PAIR, '$1***')
  return masked.length > MAX_PATH ? `${masked.slice(0, MAX_PATH)}…` : masked
}

function accessLine(exchange: Exchange): string {
  const { request, route } = exchange
  const userAgent = request.headers['user-agent']
  let line = `{"level":"info","time":"${new Date().toISOString()}","msg":"request","reqId":"${exchange.id}"`
  if (route !== undefined) line += `,"route":"${route.name}"`
  line += `,"method":"${request.method}","path":${JSON.stringify(maskUrl(exchange.url))}`
  line += `,"status":${exchange.status},"source":"${exchange.source}"`
  if (exchange.errorCode !== undefined) line += `,"code":"${exchange.errorCode}"`
  line += `,"durationMs":${ms(exchange.endedAt - exchange.startedAt)}`
  if (route !== undefined) {
    line += `,"upstreamMs":${ms(exchange.upstreamMs)},"tokenMs":${ms(exchange.tokenMs)}`
    line += `,"upstreamHost":"${route.config.upstream.host}"`
  }
  line += `,"reqBytes":${exchange.requestBytes},"resBytes":${exchange.responseBytes}`
  if (exchange.azureRequestId !== undefined) {
    line += `,"azureRequestId":${JSON.stringify(exchange.azureRequestId.slice(0, MAX_FIELD))}`
  }
  if (exchange.retry !== undefined) line += `,"attempts":${exchange.attempts},"retry":"${exchange.retry}"`
  if (userAgent !== undefined) line += `,"userAgent":${JSON.stringify(userAgent.slice(0, MAX_FIELD))}`
  if (exchange.aborted) line += ',"aborted":true'
  if (exchange.cut) line += ',"cut":true'
  return `${line}}\n`
}

function ms(value: number): number {
  return Math.round(value * 100) / 100
}

const COLORS = { red: 31, green: 32, yellow: 33, cyan: 36, dim: 2 } as const

function paint(text: string, color: keyof typeof COLORS | undefined, on: boolean): string {
  return on && color !== undefined ? `\x1b[${COLORS[color]}m${text}\x1b[0m` : text
}

/** `14:02:11  200  GET  /pools?api-version=…  182 ms  2.1 kB` */
function formatAccess(exchange: Exchange, color: boolean): string {
  const { status, request } = exchange
  const statusColor = status >= 500 ? 'red' : status >= 400 ? 'yellow' : 'green'
  const notes = [exchange.errorCode, exchange.retry, exchange.aborted && 'client left', exchange.cut && 'cut']
  const note = notes.filter(Boolean).join(', ')
  const parts = [
    paint(clockTime(new Date()), 'dim', color),
    paint(exchange.aborted && status === 0 ? '---' : String(status), statusColor, color),
    (request.method ?? '').padEnd(6),
    escapeControl(maskUrl(exchange.url)),
    paint(
      `${formatMs(exchange.endedAt - exchange.startedAt)}  ${formatBytes(exchange.responseBytes)}`,
      'dim',
      color,
    ),
    ...(note === '' ? [] : [paint(note, statusColor, color)]),
  ]
  return `${parts.join('  ')}\n`
}

/** A pino line for people: time, level unless info, message, fields. */
function formatEvent(line: string, color: boolean): string {
  const { level, time, msg, detail, remedy, ...fields } = JSON.parse(line) as Record<string, unknown>
  const below = [detail, remedy === undefined ? undefined : `fix  ${remedy}`]
    .filter(text => text !== undefined)
    .flatMap(text => String(text).split('\n'))
    .map(text => `          ${escapeControl(text)}\n`)
  const shown = Object.entries(fields)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(
      ([name, value]) =>
        `${name}=${typeof value === 'string' ? escapeControl(value) : JSON.stringify(value)}`,
    )
  const levelColor = level === 'error' ? 'red' : level === 'warn' ? 'yellow' : 'cyan'
  const parts = [
    paint(clockTime(new Date(String(time))), 'dim', color),
    ...(level === 'info' ? [] : [paint(String(level), levelColor, color)]),
    escapeControl(String(msg)),
    ...(shown.length === 0 ? [] : [paint(shown.join('  '), 'dim', color)]),
  ]
  return `${parts.join('  ')}\n${below.join('')}`
}

/** Control characters could rewrite the terminal; they are shown as escapes. */
function escapeControl(text: string): string {
  return text.replace(
    /[\x00-\x1f\x7f-\x9f\u2028\u2029]/g,
    c => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}

/** `14:02:11`, local time. */
export function clockTime(date: Date): string {
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map(n => String(n).padStart(2, '0'))
    .join(':')
}

function formatMs(value: number): string {
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`
}

function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(1)} kB`
  if (bytes < 1e9) return `${(bytes / 1_000_000).toFixed(1)} MB`
  return `${(bytes / 1e9).toFixed(2)} GB`
}
