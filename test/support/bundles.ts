/** Builders of bundles. The archives are written by tar-stream and node:zlib: not by the code that reads them. */
import { once, type EventEmitter } from 'node:events'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { createZstdCompress } from 'node:zlib'
import { pack, type Header, type Pack } from 'tar-stream'

export interface BundleEntry {
  name: string
  /** Of a file. */
  content?: string | Buffer
  /** Bytes of zeros, instead of content; they are made on the way and never held. */
  size?: number
  type?: Header['type']
  linkname?: string
}

export interface BundleOptions {
  /** false: only the tar archive. */
  compress?: boolean
}

const ZEROS = Buffer.alloc(1024 * 1024)

/** A `.tar.zst` of these entries, in this order. */
export async function makeBundle(entries: Iterable<BundleEntry>, options: BundleOptions = {}): Promise<Buffer> {
  const archive = pack()
  // tar-stream's streams are of their own kind: only as an iterable do they fit the types of Node's.
  const source = Readable.from(archive, { objectMode: false })
  const [bytes] = await Promise.all([
    buffer(options.compress === false ? source : source.compose(createZstdCompress())),
    writeEntries(archive, entries)
  ])
  return bytes
}

export const sampleManifest = {
  name: 'invoice-tools',
  publisher: 'acme',
  version: '1.2.3',
  runtime: 'wasm-js@1',
  capabilities: ['http.fetch'],
  ui: { type: 'iframe', entry: 'ui/index.html' },
  api: { endpoints: [{ method: 'GET', path: '/invoices', handler: 'dist/invoices' }] },
  assets: ['ui/logo.svg'],
  precompiled: { 'linux-x64': 'artifacts/linux-x64.cwasm' }
}

/** A small valid bundle whose manifest is the sample with these keys replaced; `filler` makes its bytes differ. */
export function bundleBytes(manifest: Record<string, unknown> = {}, filler = ''): Promise<Buffer> {
  return makeBundle([
    { name: 'manifest.json', content: JSON.stringify({ ...sampleManifest, ...manifest }) },
    { name: 'dist/main.wasm', content: `not really code ${filler}` }
  ])
}

/** A bundle as it comes from a store. */
export function streamOf(bytes: Buffer, chunkBytes = 64 * 1024): Readable {
  return Readable.from(slices(bytes, chunkBytes), { objectMode: false })
}


async function writeEntries(archive: Pack, entries: Iterable<BundleEntry>): Promise<void> {
  for (const entry of entries) await writeEntry(archive, entry)
  archive.finalize()
}

async function writeEntry(archive: Pack, { name, content = '', size, type = 'file', linkname }: BundleEntry): Promise<void> {
  const bytes = Buffer.from(content)
  const header = { name, type, size: size ?? bytes.length, mtime: new Date(0), ...(linkname !== undefined && { linkname }) }
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const sink = archive.entry(header, error => { if (error) reject(error); else resolve() })
  for (const chunk of size === undefined ? [bytes] : zeros(size)) {
    if (!sink.write(chunk)) await once(sink as unknown as EventEmitter, 'drain')
  }
  sink.end(null)
  return promise
}

function* zeros(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, Math.min(left, ZEROS.length))
}

function* slices(bytes: Buffer, chunkBytes: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes)
}
