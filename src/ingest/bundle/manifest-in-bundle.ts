/**
 * Finds the manifest in a bundle while its bytes come from the store:
 *
 *   body ─▶ zstd frames ─▶ tar entries ─▶ first manifest.json at the root or one directory down ─▶ stop
 *
 * Held in memory: a chunk on each side of the decoder, its window, one header, and the manifest. Nothing is read of the
 * body after the manifest was found; the decompression itself happens outside the event loop.
 */
import type { Readable } from 'node:stream'
import { BUNDLE_ENTRIES_MAX, MANIFEST_MAX_BYTES } from '../../limits.ts'
import { boundPassed, manifestNotInBundle, notATarZst } from './bundle-errors.ts'
import { ByteReader } from './byte-reader.ts'
import { nextEntry, skipData, type TarEntry } from './tar-entries.ts'
import { decompressZstd } from './zstd.ts'

/**
 * The text of the first manifest in the bundle, in archive order. The body is destroyed in every case.
 * Throws MANIFEST_REQUIRED with `details.reason` `manifest_not_in_bundle` or `not_a_tar_zst`, INVALID_MANIFEST where a
 * bound is passed or the manifest is not UTF-8, what the body itself failed with, or the signal's reason.
 */
export async function readManifestFromBundle(body: Readable, signal?: AbortSignal): Promise<string> {
  // A store may still complain about the connection after it was dropped here: nobody is left to hear it.
  body.on('error', ignore)
  const cancel = (): void => { body.destroy(signal?.reason instanceof Error ? signal.reason : undefined) }
  signal?.addEventListener('abort', cancel, { once: true })
  const bytes = decompressZstd(body)
  try {
    return await findManifest(new ByteReader(bytes, signal))
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', cancel)
    body.destroy()
    await bytes.return()
  }
}

async function findManifest(bytes: ByteReader): Promise<string> {
  for (let entries = 1; ; entries++) {
    const entry = await nextEntry(bytes)
    if (entry === undefined) throw manifestNotInBundle()
    if (entries > BUNDLE_ENTRIES_MAX) throw boundPassed(`no manifest in the first ${BUNDLE_ENTRIES_MAX} entries of the bundle`)
    if (entry.isFile && isManifest(entry.name)) return readText(bytes, entry)
    await skipData(bytes, entry)
  }
}

/** `manifest.json`, `./manifest.json`, `dir/manifest.json`, `./dir/manifest.json`. */
function isManifest(name: string): boolean {
  if (!name.endsWith('manifest.json') || name.startsWith('/')) return false
  const segments = name.split('/').filter(segment => segment !== '' && segment !== '.')
  return segments.at(-1) === 'manifest.json' && segments.length <= 2 && segments[0] !== '..'
}

async function readText(bytes: ByteReader, entry: TarEntry): Promise<string> {
  if (entry.size > MANIFEST_MAX_BYTES) throw boundPassed(`manifest.json is larger than ${MANIFEST_MAX_BYTES} bytes`)
  if (entry.size === 0) return ''
  const content = await bytes.take(entry.size)
  if (content === undefined) throw notATarZst('the tar archive ends too early')
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(content)
  } catch {
    throw boundPassed('manifest.json is not UTF-8')
  }
}

function ignore(): void {}
