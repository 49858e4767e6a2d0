/**
 * The layout of the bucket. No other file makes or reads a key.
 *
 *   sha256/_staging/<uuid>/<name>   being ingested; write-once; swept after STAGING_TTL_HOURS
 *   sha256/<64 hex>/<name>          canonical, immutable
 *   sha256/<64 hex>/manifest.json   of bundles and models
 *   _probe/<uuid>/<n>               start-up capability probe, removed
 */
import { randomUUID } from 'node:crypto'

export const CANONICAL_NAMES = ['bundle.tar.zst', 'object', 'model.onnx'] as const
export type CanonicalName = typeof CANONICAL_NAMES[number]

export const STAGING_PREFIX = 'sha256/_staging/'
export const CANONICAL_PREFIX = 'sha256/'
export const PROBE_PREFIX = '_probe/'

const NAME = CANONICAL_NAMES.map(name => name.replaceAll('.', '\\.')).join('|')
const STAGING_KEY = new RegExp(`^sha256/_staging/([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})/(${NAME})$`)
const CANONICAL_KEY = new RegExp(`^sha256/([0-9a-f]{64})/(${NAME}|manifest\\.json)$`)
const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** A v4 UUID in lower case (RFC 9562), as upload ids are. */
export function isUploadId(text: string): boolean {
  return UUID_V4.test(text)
}

export function stagingKey(uploadId: string, name: CanonicalName): string {
  return `${STAGING_PREFIX}${uploadId}/${name}`
}

/** The parts of a staging key of ours, or undefined for anything else, however similar. */
export function parseStagingKey(key: string): { uploadId: string, name: CanonicalName } | undefined {
  const match = STAGING_KEY.exec(key)
  return match ? { uploadId: match[1]!, name: match[2] as CanonicalName } : undefined
}

export function canonicalKey(sha256: string, name: CanonicalName): string {
  return `${CANONICAL_PREFIX}${sha256}/${name}`
}

export function manifestKey(sha256: string): string {
  return `${CANONICAL_PREFIX}${sha256}/manifest.json`
}

/** Every key that can be stored under a hash. */
export function keysOfHash(sha256: string): string[] {
  return [...CANONICAL_NAMES.map(name => canonicalKey(sha256, name)), manifestKey(sha256)]
}

/** The parts of a canonical key (also of its manifest), or undefined. */
export function parseCanonicalKey(key: string): { sha256: string, name: CanonicalName | 'manifest.json' } | undefined {
  const match = CANONICAL_KEY.exec(key)
  return match ? { sha256: match[1]!, name: match[2] as CanonicalName | 'manifest.json' } : undefined
}

/** Is this a key below a prefix that probePrefix() made? */
export function isProbeKey(key: string): boolean {
  const [id = ''] = key.startsWith(PROBE_PREFIX) ? key.slice(PROBE_PREFIX.length).split('/', 1) : []
  return isUploadId(id)
}

/** A fresh prefix for one run of the probe. */
export function probePrefix(): string {
  return `${PROBE_PREFIX}${randomUUID()}/`
}
