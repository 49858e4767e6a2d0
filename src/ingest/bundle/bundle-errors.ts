import { PenstockError } from '../../errors.ts'

/** The bytes are not a zstd-compressed tar, or not a whole one: MANIFEST_REQUIRED, reason `not_a_tar_zst`. */
export function notATarZst(problem: string, cause?: unknown): PenstockError {
  const message = `no manifest was given, and the bundle could not be read as .tar.zst: ${problem}`
  return new PenstockError('MANIFEST_REQUIRED', { message, details: { reason: 'not_a_tar_zst', problem }, cause })
}

/** A whole archive that holds no manifest: MANIFEST_REQUIRED, reason `manifest_not_in_bundle`. */
export function manifestNotInBundle(): PenstockError {
  const message = 'no manifest was given, and the bundle holds no manifest.json at its root or one directory down'
  return new PenstockError('MANIFEST_REQUIRED', { message, details: { reason: 'manifest_not_in_bundle' } })
}

/** What is wrong with a manifest; `path` is '' for the manifest as a whole. */
export interface ManifestIssue { path: string, message: string }

export function invalidManifest(issues: readonly ManifestIssue[]): PenstockError {
  return new PenstockError('INVALID_MANIFEST', { details: { issues } })
}

/** A bound was passed on the way to the manifest: INVALID_MANIFEST with one issue. */
export function boundPassed(message: string): PenstockError {
  return invalidManifest([{ path: '', message }])
}
