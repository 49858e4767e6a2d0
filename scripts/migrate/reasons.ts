/** Why something failed, in words for whoever runs the command: what is at the bottom of an error says more than its top. */
import { isPenstockError, PenstockError } from '../../src/errors.ts'
import { ObjectBodyInvalid, ObjectStoreFailed } from '../../src/objects/port.ts'
import { RecordStoreFailed } from '../../src/records/port.ts'
import { SourceFault } from './source.ts'

export function reasonOf(error: unknown): string {
  const chain = causesOf(error)
  const fault = chain.find(each => each instanceof SourceFault)
  if (fault !== undefined) return fault.message
  const bottom = chain.at(-1)?.message ?? String(error)
  if (isPenstockError(error, 'PAYLOAD_TOO_LARGE')) return `has more than ${String(error.details?.limit_bytes)} bytes`
  if (isPenstockError(error, 'REQUEST_TIMEOUT')) return 'stopped arriving'
  // what the part of a multipart body is to the service, is the whole source here
  if (isPenstockError(error, 'INVALID_MULTIPART') || error instanceof ObjectBodyInvalid) return `broke off: ${bottom}`
  const top = chain[0]?.message ?? ''
  return top === bottom || top === '' ? bottom : `${top}: ${bottom}`
}

/** Was it our own store, or the records? */
export function isOwn(error: unknown): boolean {
  if (causesOf(error).some(each => each instanceof SourceFault)) return false
  return error instanceof RecordStoreFailed || (error instanceof ObjectStoreFailed && !(error instanceof ObjectBodyInvalid)) || (error instanceof PenstockError && error.statusCode >= 500)
}

function causesOf(error: unknown): Error[] {
  const chain: Error[] = []
  for (let at = error; at instanceof Error && chain.length < 16; at = at.cause) chain.push(at)
  return chain
}
