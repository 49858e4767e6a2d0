/**
 * Decompresses a stream of zstd frames, one after another, in bounded memory.
 *
 * Why not one createZstdDecompress(): Node's decoder carries on with a next frame only where the frame before ended
 * exactly with a chunk. Where it ends within one, the decoder says "end" and drops the rest without a word (24.21).
 * Archives made of several frames (pzstd, `cat a.zst b.zst`, the seekable format, skippable frames) would be cut
 * silently. So: one chunk is given to the decoder at a time; where it ends early, `bytesWritten` says how much it took,
 * and a new decoder goes on with what was left.
 */
import type { Readable } from 'node:stream'
import { constants, createZstdDecompress, type ZstdDecompress } from 'node:zlib'
import { STREAM_HIGH_WATER_MARK_BYTES, ZSTD_DECODERS_MAX, ZSTD_WINDOW_LOG_MAX } from '../../limits.ts'
import { boundPassed, notATarZst } from './bundle-errors.ts'

const OUTPUT_CHUNK_BYTES = STREAM_HIGH_WATER_MARK_BYTES / 4

/** What one decoder was given. */
interface Input { bytes: number, last: Buffer }

/** Carries an error of the source through the decoder, so that it is not taken for one of the bytes. */
class SourceFailed extends Error {}

/**
 * The bytes in `source`, decompressed, in chunks of at most 64 KiB. Errors of the source come out as they are; bytes
 * that are not zstd, end too early, or ask for too large a window throw MANIFEST_REQUIRED (`not_a_tar_zst`).
 * Whoever stops early destroys the source; the decoder is closed here.
 */
export async function* decompressZstd(source: Readable): AsyncGenerator<Buffer, void> {
  const chunks: AsyncIterator<Buffer> = source[Symbol.asyncIterator]()
  let rest: Buffer | undefined
  for (let decoders = 0; decoders < ZSTD_DECODERS_MAX; decoders++) {
    const decoder = createZstdDecompress({
      chunkSize: OUTPUT_CHUNK_BYTES,
      params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX }
    })
    const input: Input = { bytes: 0, last: Buffer.alloc(0) }
    void feed(decoder, chunks, rest, input)
    yield* output(decoder)
    const left = input.bytes - decoder.bytesWritten
    if (left === 0) return
    rest = input.last.subarray(input.last.length - left)
  }
  throw boundPassed(`the bundle has more than ${ZSTD_DECODERS_MAX} zstd frames`)
}

async function* output(decoder: ZstdDecompress): AsyncGenerator<Buffer, void> {
  try {
    yield* decoder
  } catch (error) {
    if (error instanceof SourceFailed) throw error.cause
    throw notATarZst(problemOf(error), error)
  } finally {
    decoder.destroy()
  }
}

/** Never rejects: what fails here destroys the decoder, and its reader learns of it there. */
async function feed(decoder: ZstdDecompress, chunks: AsyncIterator<Buffer>, first: Buffer | undefined, input: Input): Promise<void> {
  for (let chunk = first; ; chunk = undefined) {
    try {
      chunk ??= await nextChunk(chunks)
    } catch (cause) {
      decoder.destroy(new SourceFailed('the source failed', { cause }))
      return
    }
    if (chunk === undefined) return void decoder.end()
    input.bytes += chunk.length
    input.last = chunk
    // It ended within the chunk: ended again, or given more, it would fail.
    if (!await taken(decoder, chunk) || decoder.bytesWritten < input.bytes) return
  }
}

async function nextChunk(chunks: AsyncIterator<Buffer>): Promise<Buffer | undefined> {
  const next = await chunks.next()
  return next.done === true ? undefined : next.value
}

/** Writes a chunk and waits until the decoder is done with it. False where it failed or was closed. */
function taken(decoder: ZstdDecompress, chunk: Buffer): Promise<boolean> {
  return new Promise(resolve => {
    decoder.write(chunk, error => { resolve(error === null || error === undefined) })
  })
}

function problemOf(error: unknown): string {
  const code = (error as { code?: unknown }).code
  if (code === 'Z_BUF_ERROR') return 'the zstd stream ends too early'
  if (code === 'ZSTD_error_frameParameter_windowTooLarge') return `its zstd window is larger than ${2 ** (ZSTD_WINDOW_LOG_MAX - 20)} MiB`
  if (code === 'ZSTD_error_prefix_unknown') return 'it is not zstd'
  return 'its zstd stream is damaged'
}
