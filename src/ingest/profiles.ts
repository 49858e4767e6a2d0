/** A profile says what an upload becomes. Adding one is a row here and, where finalize checks more, a check in finalize.ts. */
import type { Settings } from '../config.ts'
import type { CanonicalName } from '../objects/keys.ts'
import type { UploadKind } from '../records/port.ts'

export interface Profile {
  readonly kind: UploadKind
  readonly canonicalName: CanonicalName
  readonly contentType: string
  /** Largest upload, in bytes. */
  readonly maxBytes: number
}

export type Profiles = Readonly<Record<UploadKind, Profile>>

type Caps = Pick<Settings, 'MAX_BUNDLE_SIZE_BYTES' | 'MAX_OBJECT_SIZE_BYTES' | 'MAX_MODEL_SIZE_BYTES'>

export function profilesOf(caps: Caps): Profiles {
  return {
    bundle: { kind: 'bundle', canonicalName: 'bundle.tar.zst', contentType: 'application/zstd', maxBytes: caps.MAX_BUNDLE_SIZE_BYTES },
    object: { kind: 'object', canonicalName: 'object', contentType: 'application/octet-stream', maxBytes: caps.MAX_OBJECT_SIZE_BYTES },
    model: { kind: 'model', canonicalName: 'model.onnx', contentType: 'application/octet-stream', maxBytes: caps.MAX_MODEL_SIZE_BYTES }
  }
}

/** The profile that stores under this name. */
export function profileNamed(profiles: Profiles, name: CanonicalName): Profile {
  return Object.values(profiles).find(profile => profile.canonicalName === name)!
}

/** The kind where a caller named none. */
export function kindOfFilename(filename: string): UploadKind {
  return filename.endsWith('.tar.zst') ? 'bundle' : 'object'
}
