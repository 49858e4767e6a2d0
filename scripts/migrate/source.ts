/** What every source of an import gives out: entries, one after another, each opened when its turn comes. */
import type { Readable } from 'node:stream'

/** The bytes of an entry, and what the source says of them. Whoever opened it destroys the body, also after its end. */
export interface Opened {
  body: Readable
  /** bytes, where the source says so: another number that arrives is a failure */
  size?: number
  contentType?: string
  /** name that the source itself gives the bytes */
  filename?: string
  /** After the last byte, before the body is destroyed: is it still what was read? @throws SourceFault */
  confirm?(): Promise<void>
}

export interface Item {
  /** for people: without anything secret */
  name: string
  /** the same at each run, and different for each item of this source: the file's id is made of it */
  identity: string
  /** below the root of the source, with slashes: what a map of prefixes looks at, and where the name of the file comes from */
  path: string
  /** bytes, where they are known before it is opened */
  size?: number
  /** name of the file, where it is not the end of `path` */
  filename?: string
  /** @throws SourceFault */
  open(signal: AbortSignal): Promise<Opened>
}

/** Something in the source that cannot be imported, and why. */
export interface Refused { name: string, outcome: 'skipped' | 'failed', reason: string }

export type Entry = Item | Refused

export interface Source {
  /** Can be asked for more than once. @throws SourceFault where the source as a whole cannot be read */
  entries(signal: AbortSignal): AsyncIterable<Entry>
  close(): Promise<void>
}

/** The source's fault, in words that complete "<name>: …". */
export class SourceFault extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'SourceFault'
  }
}

export function isRefused(entry: Entry): entry is Refused {
  return 'outcome' in entry
}
