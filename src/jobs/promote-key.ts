/** Keys at the file gateway: 1 to 1024 bytes of `A-Z a-z 0-9 . _ -`, in segments between slashes. So they need no escaping. */
import { PenstockError } from '../errors.ts'
import { GATEWAY_KEY_MAX_BYTES, GATEWAY_KEY_SEGMENT_MAX_BYTES } from '../limits.ts'

/** @throws INVALID_OBJECT_KEY */
export function assertObjectKey(key: string): void {
  const fault = faultOf(key)
  if (fault !== undefined) throw new PenstockError('INVALID_OBJECT_KEY', { message: `target_object_key ${fault}`, details: { field: 'target_object_key' } })
}

function faultOf(key: string): string | undefined {
  if (key === '') return 'is empty'
  // every character that is allowed is one byte
  if (key.length > GATEWAY_KEY_MAX_BYTES) return `has more than ${GATEWAY_KEY_MAX_BYTES} bytes`
  if (!/^[A-Za-z0-9._/-]+$/.test(key)) return 'may consist of A-Z a-z 0-9 . _ - and / alone'
  const segments = key.split('/')
  if (segments.includes('')) return 'has an empty segment, or a slash at its beginning or end'
  if (segments.some(segment => segment === '.' || segment === '..')) return 'has a segment . or ..'
  if (segments.some(({ length }) => length > GATEWAY_KEY_SEGMENT_MAX_BYTES)) return `has a segment of more than ${GATEWAY_KEY_SEGMENT_MAX_BYTES} bytes`
  return undefined
}
