/** What a caller asks of `/upload-proxy`, checked in the order of the contract; the first failure wins. */
import { PenstockError, type Slug } from '../errors.ts'
import { FILENAME_MAX_BYTES } from '../limits.ts'
import { isUploadId } from '../objects/keys.ts'
import type { UploadKind } from '../records/port.ts'
import { cleanFilename } from './filename.ts'
import { kindOfFilename, type Profile, type Profiles } from './profiles.ts'

export interface UploadRequest {
  profile: Profile
  /** Chosen by the caller, in lower case. */
  uploadId: string | undefined
  /** cleaned */
  filename: string
  /** bytes */
  size: number
  /** hex */
  declaredSha256: string | undefined
}

type Query = Readonly<Record<string, unknown>>
type Headers = Readonly<Record<string, string | string[] | undefined>>

function refuse(why: Slug, message: string, details?: Record<string, unknown>): PenstockError {
  return new PenstockError('BAD_REQUEST', details ? { why, message, details } : { why, message })
}

function readKind(query: Query, profiles: Profiles): UploadKind | undefined {
  if (query.kind === undefined) return undefined
  if (typeof query.kind === 'string' && Object.hasOwn(profiles, query.kind)) return query.kind as UploadKind
  throw refuse('kind_invalid', `kind must be one of ${Object.keys(profiles).join(', ')}`)
}

function readUploadId(query: Query): string | undefined {
  if (query.uploadId === undefined) return undefined
  const id = typeof query.uploadId === 'string' ? query.uploadId.toLowerCase() : ''
  if (!isUploadId(id)) throw refuse('upload_id_invalid', 'uploadId must be a version 4 UUID')
  return id
}

function readFilename(query: Query): string {
  const name = query.filename
  if (typeof name !== 'string' || name.trim() === '') throw refuse('filename_required', 'filename must be given, once and not blank')
  if (Buffer.byteLength(name) > FILENAME_MAX_BYTES) throw refuse('filename_required', `filename must be at most ${FILENAME_MAX_BYTES} bytes`)
  return name
}

function readSize(query: Query, maxBytes: number): number {
  if (query.size === undefined || query.size === '') throw refuse('size_required', 'size must be given, in bytes')
  if (typeof query.size !== 'string' || !/^\d{1,16}$/.test(query.size) || !Number.isSafeInteger(Number(query.size)) || Number(query.size) === 0) {
    // more digits than a safe integer has is still a number, and over every cap
    if (typeof query.size === 'string' && /^0*[1-9]\d{15,}$/.test(query.size)) throw exceedsCap(maxBytes)
    throw refuse('size_invalid', 'size must be a decimal whole number above 0')
  }
  const size = Number(query.size)
  if (size > maxBytes) throw exceedsCap(maxBytes, size)
  return size
}

function exceedsCap(maxBytes: number, size?: number): PenstockError {
  return refuse('size_exceeds_cap', `size is over the limit of ${maxBytes} bytes`, { limit_bytes: maxBytes, ...(size === undefined ? {} : { size }) })
}

const SHA256_HEX = /^[a-f0-9]{64}$/
/** One `sha-256=:<base64>:` of a dictionary of digests (RFC 9530, RFC 8941 byte sequence). 32 bytes are 43 digits and one `=`. */
const SHA256_MEMBER = /^\s*sha-256\s*=\s*:([A-Za-z0-9+/]{43}=):\s*(?:;.*)?$/

function readDigestField(field: string | string[] | undefined): string | undefined {
  if (field === undefined) return undefined
  const members = [field].flat().join(',').split(',').filter(member => /^\s*sha-256\s*=/.test(member))
  if (members.length === 0) return undefined // only algorithms that we do not check
  const match = SHA256_MEMBER.exec(members.at(-1)!) // RFC 8941: of equal keys the last counts
  if (!match) throw refuse('declared_hash_invalid', 'the digest field must read sha-256=:<base64 of 32 bytes>:')
  return Buffer.from(match[1]!, 'base64').toString('hex')
}

function readDeclaredHash(query: Query, headers: Headers): string | undefined {
  const given = query.declaredHash
  if (given !== undefined && (typeof given !== 'string' || !SHA256_HEX.test(given))) {
    throw refuse('declared_hash_invalid', 'declaredHash must be 64 hexadecimal digits in lower case')
  }
  const hashes = [given, readDigestField(headers['content-digest']), readDigestField(headers['repr-digest'])]
    .filter(hash => hash !== undefined)
  if (new Set(hashes).size > 1) throw refuse('declared_hash_invalid', 'the declared hashes disagree')
  return hashes[0]
}

function checkBody(headers: Headers, size: number): void {
  const length = headers['content-length']
  if (length !== undefined && Number(length) !== size) {
    throw refuse('content_length_mismatch', 'Content-Length differs from size', { expected: size, content_length: Number(length) })
  }
  if (length === undefined && headers['transfer-encoding'] === undefined) throw refuse('missing_body', 'the request has no body')
}

/** @throws BAD_REQUEST with the slug of the first check that failed */
export function readUploadRequest(query: Query, headers: Headers, profiles: Profiles, mayUse: (profile: Profile) => void): UploadRequest {
  const kind = readKind(query, profiles)
  const uploadId = readUploadId(query)
  const filename = readFilename(query)
  const profile = profiles[kind ?? kindOfFilename(filename.trim())]
  mayUse(profile)
  const size = readSize(query, profile.maxBytes)
  const declaredSha256 = readDeclaredHash(query, headers)
  checkBody(headers, size)
  return { profile, uploadId, filename: cleanFilename(filename), size, declaredSha256 }
}
