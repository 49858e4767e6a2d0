/** Reads an object back and digests it: for bytes that did not pass through ingest. */
import { createHash } from 'node:crypto'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { PenstockError } from '../errors.ts'
import type { ObjectInfo, ObjectStore } from '../objects/port.ts'

/** Hex sha256 of the object while it has the given ETag. @throws BAD_REQUEST over `maxBytes`; ObjectPreconditionFailed; ObjectNotFound */
export async function digestObject(store: ObjectStore, info: ObjectInfo, maxBytes: number): Promise<string> {
  const { body } = await store.open(info.key, { ifMatch: info.etag })
  const hash = createHash('sha256')
  let read = 0
  await pipeline(body, new Writable({
    write(chunk: Buffer, _encoding, done) {
      read += chunk.length
      hash.update(chunk)
      done(read > maxBytes ? new PenstockError('BAD_REQUEST', { message: `the stored bytes are over the limit of ${maxBytes} bytes` }) : null)
    }
  }))
  if (read !== info.size) throw new Error(`read ${read} bytes of ${info.size}`)
  return hash.digest('hex')
}
