/**
 * The object manifest.json beside a bundle or a model: a copy, for those who read the bucket, of what the record of the first
 * version with these bytes says.
 *
 * It is stored before the record, so that no version is ever without one. A finalize that comes to nothing after that (it
 * loses a race for its version, or to an abort, or the records are away) leaves its manifest there, and the same bytes can
 * come again with another. So whoever has recorded a version compares, and where the object says otherwise, replaces it.
 */
import { putOnce } from '../../objects/create-only.ts'
import { manifestKey } from '../../objects/keys.ts'
import type { ObjectStore } from '../../objects/port.ts'
import type { StoreAbilities } from '../../objects/probe.ts'

const OPTIONS = { contentType: 'application/json', cacheControl: 'public, max-age=31536000, immutable' }

/** `created` is false where one is there already, whatever it says. @throws ObjectStoreFailed */
export async function storeManifest(store: ObjectStore, abilities: StoreAbilities, sha256: string, manifest: unknown): Promise<{ created: boolean }> {
  return await putOnce(store, abilities, manifestKey(sha256), bytesOf(manifest), OPTIONS)
}

/**
 * After the version was recorded. Asks the store nothing where this finalize made the object and the first version.
 * @param first the oldest record with these bytes, where there is one
 * @param made the manifest that storeManifest() has stored for this finalize, where it created the object
 * @throws ObjectStoreFailed: the object may then not be that of the first version
 */
export async function settleManifest(store: ObjectStore, first: { manifest: unknown } | undefined, sha256: string, made: unknown): Promise<void> {
  if (first === undefined) return
  const wanted = bytesOf(first.manifest)
  if (made !== undefined && bytesOf(made).equals(wanted)) return
  if (await holds(store, manifestKey(sha256), wanted)) return
  await store.put(manifestKey(sha256), wanted, { ...OPTIONS, size: wanted.length })
}

function bytesOf(manifest: unknown): Buffer {
  return Buffer.from(JSON.stringify(manifest))
}

async function holds(store: ObjectStore, key: string, bytes: Buffer): Promise<boolean> {
  const { size, body } = await store.open(key)
  if (size === bytes.length) return Buffer.concat(await body.toArray()).equals(bytes)
  body.destroy()
  return false
}
