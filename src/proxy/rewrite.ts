// Whether a response body is read for links, and how its coding is undone for it. A body that is not
// JSON, or whose coding cannot be undone, passes untouched.

import { createBrotliDecompress, createGunzip, createInflate, type Gunzip } from 'node:zlib'
import { findHeader, removeHeaders } from './headers.ts'
import { isJson, type JsonLinkRewriter } from './json-links.ts'

export interface BodySink {
  /** Takes a chunk; false when no more should come before `drained`. */
  write(chunk: Buffer): boolean
  end(): void
  fail(error: Error): void
  /** The upstream may go on. */
  resume(): void
}

/** A body on its way through. `write` answers false when the upstream should pause until `resume`. */
export interface BodyRewriter {
  write(chunk: Buffer): boolean
  end(): void
  /** The client has caught up. */
  drained(): void
  destroy(): void
}

/** Bytes, digests and codings that a rewritten body no longer has. */
const BODY_HEADERS = ['content-length', 'content-md5', 'content-digest', 'digest']

/** Adjusts `head` and returns the rewriter, or undefined when the body passes as it is. */
export function openBodyRewriter(
  head: string[],
  openLinks: () => JsonLinkRewriter,
  sink: BodySink,
): BodyRewriter | undefined {
  if (!isJson(findHeader(head, 'content-type'))) return undefined
  const coding = (findHeader(head, 'content-encoding') ?? 'identity').trim().toLowerCase()
  const decoder = openDecoder(coding)
  if (decoder === undefined && coding !== 'identity') return undefined
  removeHeaders(head, BODY_HEADERS)
  const links = openLinks()
  if (decoder === undefined) return plain(links, sink)
  removeHeaders(head, ['content-encoding'])
  return decoding(decoder, links, sink)
}

function openDecoder(coding: string): Gunzip | undefined {
  if (coding === 'gzip' || coding === 'x-gzip') return createGunzip()
  if (coding === 'br') return createBrotliDecompress()
  if (coding === 'deflate') return createInflate()
  return undefined
}

function plain(links: JsonLinkRewriter, sink: BodySink): BodyRewriter {
  return {
    write(chunk) {
      const rewritten = links.write(chunk)
      return rewritten.length === 0 || sink.write(rewritten)
    },
    end() {
      const rest = links.end()
      if (rest.length > 0) sink.write(rest)
      sink.end()
    },
    drained: () => sink.resume(),
    destroy: () => {},
  }
}

function decoding(decoder: Gunzip, links: JsonLinkRewriter, sink: BodySink): BodyRewriter {
  const inner = plain(links, sink)
  decoder.on('data', (chunk: Buffer) => {
    if (!inner.write(chunk)) decoder.pause()
  })
  decoder.on('end', () => inner.end())
  decoder.on('error', error => sink.fail(error))
  decoder.on('drain', () => sink.resume())
  return {
    write: chunk => decoder.write(chunk),
    end: () => decoder.end(),
    drained: () => decoder.resume(),
    destroy: () => decoder.destroy(),
  }
}
