/** Paths of media: `media/<user>/<name>`. They are names of rows, and never part of a key or of a path on a disk. */
import { PenstockError } from '../errors.ts'
import type { Holder } from '../records/access-port.ts'
import { userOf } from '../records/holders.ts'

const ROOT = 'media/'

export function mediaPath(holder: Holder, mediaName: string): string {
  return `${ROOT}${userOf(holder)}/${mediaName}`
}

/** Path and query of an address: each part encoded, so that no character of a name means anything. */
export function mediaAddress(path: string): string {
  return `/${path.split('/').map(encodeURIComponent).join('/')}`
}

/** The name in the holder's own library. What is no such path, or another's, is not there. @throws FILE_NOT_FOUND */
export function mediaNameOf(holder: Holder, path: string): string {
  const own = mediaPath(holder, '')
  const name = path.startsWith(own) ? path.slice(own.length) : ''
  if (name === '' || name.includes('\0') || !name.isWellFormed()) throw new PenstockError('FILE_NOT_FOUND')
  return name
}

/**
 * The path in the target of a request, read as it was sent: a part that only decodes to a slash or to dots is no way around
 * anything. @throws FILE_NOT_FOUND
 */
export function pathOfTarget(target: string): string {
  const [address = ''] = target.split(/[?#]/, 1)
  const parts = address.split('/').slice(1).map(decoded)
  if (parts.some(part => part === undefined || part === '' || part === '.' || part === '..' || /[/\\\0]/.test(part))) throw new PenstockError('FILE_NOT_FOUND')
  return parts.join('/')
}

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}
