// Rewrites the paging and polling links of a JSON body while it streams past: the string values of four
// keys, at any depth. Not one byte outside such a value is changed, whatever the body turns out to be.
//
// Why searching for a key's text is enough, without a parser. In JSON a backslash stands only inside a
// string, so an opening quote never follows one, and a quote that follows none always delimits a string.
// Two delimiting quotes with nothing but a key's text between them must open and close one string: were the
// first a closing one, the text would stand outside of strings, where JSON allows no such word. A string is
// a key exactly when whitespace and a colon follow it, and text inside another string can show neither.

import type { LinkMap, LinkMatch, LinkOrigin } from './links.ts'

/** A longer value, in bytes as sent, passes untouched; so no more than this is ever held back. */
const MAX_LINK_BYTES = 64 * 1024

/** A whole key with its quotes, at the end of a text, with the byte before it. Keys spelled with escapes are not known. */
const KEY_AT_END = /[^\\]"(?:(?:@?odata\.)?nextLink|AzureAsyncOperationUri)"$/

/** Ends of the keys, each from a capital that is rare in JSON: the native search jumps from one to the next. */
const KEY_ENDINGS = [Buffer.from('Link"'), Buffer.from('OperationUri"')] as const

/** Bytes before a closing quote that decide whether it ends a key: the longest key, its opening quote, one more. */
const REACH = 'AzureAsyncOperationUri'.length + 2

const QUOTE = 0x22
const COLON = 0x3a
const BACKSLASH = 0x5c
const EMPTY = Buffer.alloc(0)

/** What the next byte belongs to. `start`: before the first bracket; `pass`: not an object or array, so nothing to find. */
type State = 'start' | 'pass' | 'search' | 'after-key' | 'after-colon' | 'value'

/**
 * `application/json` and `application/*+json`, with any parameters. Event streams, NDJSON, multipart and
 * files are not JSON documents, even when they carry some.
 */
export function isJson(contentType: string | undefined): boolean {
  return contentType !== undefined && /^application\/(?:[^\s;,/]+\+)?json[ \t]*(?:;|$)/i.test(contentType)
}

/** One body's rewriter: `write` each chunk, then `end`. Any split is fine, also inside a key or a character. */
export class JsonLinkRewriter {
  readonly #links: LinkMap
  readonly #origin: LinkOrigin
  #state: State = 'start'
  /** The last bytes before the current chunk, one character each: a key may straddle chunks. */
  #tail = ''
  /** The parts of a value whose end has not come yet. */
  #held: Buffer[] = []
  #heldBytes = 0
  /** The held bytes end in an odd run of backslashes: the next byte is escaped. */
  #heldEscapes = false
  /** What `write` has ready before `#sent`, a place in its chunk; empty as long as the chunk is unchanged. */
  #out: Buffer[] = []
  #sent = 0
  /** Per key ending, where in the chunk it was found last; -1 before the first search. */
  #found: number[] = []

  constructor(links: LinkMap, origin: LinkOrigin) {
    this.#links = links
    this.#origin = origin
  }

  /** The bytes to send on, perhaps none; the very chunk when there is nothing to change or to hold back. */
  write(chunk: Buffer): Buffer {
    this.#out = []
    this.#sent = 0
    this.#found = [-1, -1]
    let at = 0
    while (at < chunk.length && this.#state !== 'pass') at = this.#step(chunk, at)
    this.#remember(chunk)

    if (this.#out.length === 0 && this.#sent === 0) return chunk
    this.#out.push(chunk.subarray(this.#sent))
    return this.#out.length === 1 ? this.#out[0]! : Buffer.concat(this.#out)
  }

  /** What is still held back: a value that never ended, as it came. */
  end(): Buffer {
    return this.#release()
  }

  /** Takes one step at `at` of the chunk and says where the next begins. */
  #step(chunk: Buffer, at: number): number {
    switch (this.#state) {
      case 'start': {
        const first = skip(chunk, at, isSpaceOrMark)
        if (first < chunk.length) this.#state = isBracket(chunk[first]!) ? 'search' : 'pass'
        return first
      }
      case 'search': {
        const quote = this.#nextKey(chunk, at)
        if (quote === -1) return chunk.length
        this.#state = 'after-key'
        return quote + 1
      }
      case 'after-key':
        return this.#expect(chunk, at, COLON, 'after-colon')
      case 'after-colon':
        return this.#expect(chunk, at, QUOTE, 'value')
      case 'value':
        return this.#takeValue(chunk, at)
      case 'pass':
        return chunk.length
    }
  }

  /** After whitespace either `byte` comes, which leads to `next`, or this is no link and the search goes on. */
  #expect(chunk: Buffer, from: number, byte: number, next: State): number {
    const at = skip(chunk, from, isSpace)
    if (at === chunk.length) return at
    this.#state = chunk[at] === byte ? next : 'search'
    return at + 1
  }

  #takeValue(chunk: Buffer, at: number): number {
    const quote = this.#closingQuote(chunk, at)
    const end = quote === -1 ? chunk.length : quote
    if (this.#heldBytes + end - at > MAX_LINK_BYTES) {
      if (this.#heldBytes > 0) this.#out.push(this.#release())
      this.#state = 'search'
      return end
    }
    if (quote === -1) {
      if (at > this.#sent) this.#out.push(chunk.subarray(this.#sent, at))
      this.#hold(chunk.subarray(at))
      this.#sent = end
      return end
    }

    const part = chunk.subarray(at, quote)
    const held = this.#release()
    const value = held.length === 0 ? part : Buffer.concat([held, part])
    const match = this.#match(value)
    if (match !== null) {
      const base = Buffer.from(JSON.stringify(match.base).slice(1, -1))
      this.#out.push(chunk.subarray(this.#sent, at), base, value.subarray(sourceLength(value, match.from)))
      this.#sent = quote
    } else if (held.length > 0) this.#out.push(held)
    this.#state = 'search'
    return quote + 1
  }

  /** Index of the closing quote of the first key that ends at or after `from`, or -1. */
  #nextKey(chunk: Buffer, from: number): number {
    // Near the start of a chunk a key may have begun before it, so each quote there is looked at.
    let quote = chunk.indexOf(QUOTE, from)
    while (quote !== -1 && quote < REACH) {
      if (this.#endsKey(chunk, quote)) return quote
      quote = chunk.indexOf(QUOTE, quote + 1)
    }
    if (quote === -1) return -1

    quote = this.#nextKeyEnding(chunk, quote)
    while (quote < chunk.length && !this.#endsKey(chunk, quote)) {
      quote = this.#nextKeyEnding(chunk, quote + 1)
    }
    return quote < chunk.length ? quote : -1
  }

  /** Index, at or after `from`, of the first quote that ends any of the key endings; the chunk's length if none. */
  #nextKeyEnding(chunk: Buffer, from: number): number {
    let nearest = chunk.length
    for (const [which, ending] of KEY_ENDINGS.entries()) {
      // A place found earlier and still ahead is good: each byte is searched once per ending.
      if (this.#found[which]! < from) {
        const start = chunk.indexOf(ending, from - ending.length + 1)
        this.#found[which] = start === -1 ? chunk.length : start + ending.length - 1
      }
      nearest = Math.min(nearest, this.#found[which]!)
    }
    return nearest
  }

  #endsKey(chunk: Buffer, quote: number): boolean {
    const start = Math.max(0, quote - REACH)
    const text = chunk.toString('latin1', start, quote + 1)
    return KEY_AT_END.test(quote < REACH ? this.#tail + text : text)
  }

  #remember(chunk: Buffer): void {
    const end = chunk.toString('latin1', Math.max(0, chunk.length - REACH))
    this.#tail = (this.#tail + end).slice(-REACH)
  }

  /** Index of the quote that ends the value which goes on at `from`, or -1. */
  #closingQuote(chunk: Buffer, from: number): number {
    let quote = chunk.indexOf(QUOTE, from)
    while (quote !== -1 && this.#isEscaped(chunk, from, quote)) quote = chunk.indexOf(QUOTE, quote + 1)
    return quote
  }

  /** Whether the byte at `at` follows an odd run of backslashes in the value that goes on at `from`. */
  #isEscaped(chunk: Buffer, from: number, at: number): boolean {
    let start = at
    while (start > from && chunk[start - 1] === BACKSLASH) start -= 1
    const odd = (at - start) % 2 === 1
    return start === from ? odd !== this.#heldEscapes : odd
  }

  #hold(part: Buffer): void {
    this.#heldEscapes = this.#isEscaped(part, 0, part.length)
    this.#held.push(part)
    this.#heldBytes += part.length
  }

  #release(): Buffer {
    if (this.#held.length === 0) return EMPTY
    const held = Buffer.concat(this.#held)
    this.#held = []
    this.#heldBytes = 0
    this.#heldEscapes = false
    return held
  }

  #match(value: Buffer): LinkMatch | null {
    try {
      return this.#links.match(JSON.parse(`"${value.toString()}"`), this.#origin)
    } catch {
      return null // Not a JSON string after all: a broken escape or a bare control character.
    }
  }
}

/** Bytes that the first `characters` of a JSON string take as written, when these are ASCII. */
function sourceLength(value: Buffer, characters: number): number {
  let length = 0
  for (let index = 0; index < characters; index += 1) {
    length += value[length] !== BACKSLASH ? 1 : value[length + 1] === 0x75 /* u */ ? 6 : 2
  }
  return length
}

function skip(chunk: Buffer, from: number, isSkipped: (byte: number) => boolean): number {
  let at = from
  while (at < chunk.length && isSkipped(chunk[at]!)) at += 1
  return at
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

/** Whitespace, or a byte of the UTF-8 byte order mark. */
function isSpaceOrMark(byte: number): boolean {
  return isSpace(byte) || byte === 0xef || byte === 0xbb || byte === 0xbf
}

function isBracket(byte: number): boolean {
  return byte === 0x7b || byte === 0x5b
}
