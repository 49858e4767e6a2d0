/** A multipart body of fields and of objects of the bucket, whose length is known before any of it is read. */
import { createHash, randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { STREAM_HIGH_WATER_MARK_BYTES } from '../../limits.ts'
import { claimMemory } from '../../objects/give-back.ts'
import type { ObjectStore } from '../../objects/port.ts'
import { InferenceFailed, type RunInput } from '../port.ts'

export interface FormFile { field: string, filename: string, input: RunInput }

export interface Form {
  headers: { 'content-type': string, 'content-length': string }
  /** One at a time. Ends with an error in place of its end where the bytes of an input are not those that were meant. */
  stream(store: ObjectStore, signal: AbortSignal): Readable
}

export function formOf(fields: Readonly<Record<string, string>>, files: readonly FormFile[]): Form {
  const boundary = `penstock-${randomUUID()}`
  const head = (disposition: string, more = ''): Buffer => Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; ${disposition}\r\n${more}\r\n`)
  const parts = [
    ...Object.entries(fields).map(([name, value]) => ({ head: head(`name="${name}"`), value: Buffer.from(value), input: undefined })),
    ...files.map(({ field, filename, input }) => ({ head: head(`name="${field}"; filename="${filename}"`, `Content-Type: ${headerText(input.contentType)}\r\n`), value: Buffer.alloc(0), input }))
  ]
  const between = Buffer.from('\r\n')
  const end = Buffer.from(`--${boundary}--\r\n`)
  const length = parts.reduce((sum, { head: { length: headBytes }, value, input }) => sum + headBytes + value.length + (input?.size ?? 0) + between.length, end.length)

  async function* chunks(store: ObjectStore, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    for (const { head: partHead, value, input } of parts) {
      yield partHead
      if (input === undefined) yield value
      else yield* bytesOf(store, input, signal)
      yield between
    }
    yield end
  }

  return {
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}`, 'content-length': String(length) },
    stream: (store, signal) => Readable.from(chunks(store, signal), { objectMode: false, highWaterMark: STREAM_HIGH_WATER_MARK_BYTES })
  }
}

function headerText(text: string): string {
  return /^[\x20-\x7e]+$/.test(text) ? text : 'application/octet-stream'
}

/** As a worker that reads the bucket itself does, it looks at whether these are the bytes. */
async function* bytesOf(store: ObjectStore, { key, sha256, size }: RunInput, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  const { body, size: stored, disposable = false } = await store.open(key, { signal })
  const hash = createHash('sha256')
  if (stored === size) {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      hash.update(chunk)
      if (disposable) claimMemory(chunk)
      yield chunk
    }
  }
  body.destroy()
  if (stored !== size || hash.digest('hex') !== sha256) throw new InferenceFailed('storage_failed', 'the stored input has other bytes than its digest says')
}
