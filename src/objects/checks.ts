/**
 * What every adapter demands before it asks its backend anything, so that a key or a range means the same in all of them
 * and a key can never name something outside of a root or bucket.
 */
import { OBJECT_KEY_MAX_BYTES, OBJECT_KEY_SEGMENT_MAX_BYTES, PARTS_MAX } from '../limits.ts'
import { ObjectKeyInvalid, ObjectRangeNotSatisfiable, ObjectStoreFailed, type ByteRange, type MultipartPart } from './port.ts'

/** @throws ObjectKeyInvalid */
export function checkKey(key: string): void {
  const fault = faultOf(key)
  if (fault !== undefined) throw new ObjectKeyInvalid(`an object key ${fault}`)
}

/** A prefix is a key of which the last segment may be unfinished or empty. @throws ObjectKeyInvalid */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix)
}

/** Order of keys in lists: that of their bytes in UTF-8, which is not the order of JavaScript's strings. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b)
}

function faultOf(key: string): string | undefined {
  if (key === '') return 'must not be empty'
  if (!key.isWellFormed()) return 'must be well-formed Unicode'
  if (Buffer.byteLength(key) > OBJECT_KEY_MAX_BYTES) return `must not be longer than ${OBJECT_KEY_MAX_BYTES} bytes`
  if (key.includes('\0') || key.includes('\\')) return 'must not contain NUL or a backslash'
  for (const segment of key.split('/')) {
    if (segment === '') return 'must not begin or end with a slash, or contain two in a row'
    // covers '.' and '..', and keeps the names that stores use for themselves
    if (segment.startsWith('.')) return 'must not have a segment that begins with a dot'
    if (Buffer.byteLength(segment) > OBJECT_KEY_SEGMENT_MAX_BYTES) return `must not have a segment of more than ${OBJECT_KEY_SEGMENT_MAX_BYTES} bytes`
  }
  return undefined
}

/** @throws ObjectRangeNotSatisfiable where the range does not lie inside `size` bytes */
export function checkRange(range: ByteRange | undefined, size: number): void {
  if (range === undefined) return
  const { start, end } = range
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || start > end || end >= size) {
    throw new ObjectRangeNotSatisfiable('the range does not lie inside the object')
  }
}

/** @throws ObjectStoreFailed where the list is empty, out of order or has a number that S3 does not know */
export function checkParts(parts: readonly MultipartPart[]): void {
  let last = 0
  for (const { partNumber } of parts) {
    if (!Number.isInteger(partNumber) || partNumber <= last || partNumber > PARTS_MAX) throw new ObjectStoreFailed('the parts are not in order')
    last = partNumber
  }
  if (last === 0) throw new ObjectStoreFailed('an upload cannot be completed without parts')
}

export function partMissing(partNumber: number): ObjectStoreFailed {
  return new ObjectStoreFailed(`part ${partNumber} is not stored as it was given`)
}
