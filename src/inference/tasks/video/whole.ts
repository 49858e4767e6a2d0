/**
 * Does a file go as far as the lengths in it say? The demuxers of AVI and WMV do not look at that: what is cut off is a shorter
 * video to them, and the end of an MP4 may be missing where only sound lies. What says no length, as a file that was written
 * while it was sent does, has none to be held against.
 */
import { open } from 'node:fs/promises'
import { VIDEO_PARTS_MAX } from '../../../limits.ts'
import type { Container } from './container.ts'

/** Bytes at that offset: fewer where the file ends before. */
type Read = (from: number, bytes: number) => Promise<Buffer>

/** Where the parts of a file end, as it says. */
const ENDS: Record<Container['demuxer'], (read: Read) => AsyncGenerator<number, void, undefined>> = { mov: endsOfBoxes, matroska: endOfSegment, avi: endsOfRiffs, asf: endOfPackets }

export async function isCutOff({ demuxer }: Container, path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const read: Read = async (from, bytes) => {
      if (from >= size) return Buffer.alloc(0)
      const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, from)
      return buffer.subarray(0, bytesRead)
    }
    let parts = 0
    for await (const end of ENDS[demuxer](read)) {
      if (end > size) return true
      if ((parts += 1) === VIDEO_PARTS_MAX) break
    }
    return false
  } finally {
    await file.close()
  }
}

const BOXES = new Set(['ftyp', 'styp', 'sidx', 'moov', 'moof', 'mdat', 'mfra', 'meta', 'uuid', 'free', 'skip', 'wide', 'pnot'])

/** ISO/IEC 14496-12, 4.2. Behind what is no box anything may lie. */
async function* endsOfBoxes(read: Read): AsyncGenerator<number, void, undefined> {
  for (let from = 0;;) {
    const head = await read(from, 16)
    if (head.length < 8 || !BOXES.has(head.toString('latin1', 4, 8))) return
    const short = head.readUInt32BE(0)
    if (short === 1 && head.length < 16) return
    const size = short === 1 ? Number(head.readBigUInt64BE(8)) : short
    // 0: it goes on to the end, wherever that is
    if (size < 8) return
    yield from += size
  }
}

/** RFC 8794: an EBML header, and a Segment. */
async function* endOfSegment(read: Read): AsyncGenerator<number, void, undefined> {
  const header = await elementAt(read, 0)
  const segment = header && await elementAt(read, header.end)
  if (segment?.id === 0x18538067) yield segment.end
}

/** One of an id of four bytes; undefined where its size is not known. */
async function elementAt(read: Read, from: number): Promise<{ id: number, end: number } | undefined> {
  const head = await read(from, 12)
  if (head.length < 12) return undefined
  const length = Math.clz32(head[4]!) - 23
  if (length > 8) return undefined
  const size = BigInt(`0x${head.toString('hex', 4, 4 + length)}`) ^ 1n << BigInt(7 * length)
  return size === (1n << BigInt(7 * length)) - 1n ? undefined : { id: head.readUInt32BE(0), end: from + 4 + length + Number(size) }
}

/** Of more than one there are those of OpenDML, of 1 GiB each. */
async function* endsOfRiffs(read: Read): AsyncGenerator<number, void, undefined> {
  for (let from = 0;;) {
    const head = await read(from, 8)
    if (head.length < 8 || head.toString('latin1', 0, 4) !== 'RIFF') return
    const size = head.readUInt32LE(4)
    if (size === 0 || size === 0xffff_ffff) return
    // some count these eight bytes as well
    yield from + size
    from += 8 + size + size % 2
  }
}

const DATA = Buffer.from('3626b2758e66cf11a6d900aa0062ce6c', 'hex')

/** ASF, 2.2: behind the header object the data object. */
async function* endOfPackets(read: Read): AsyncGenerator<number, void, undefined> {
  const header = await read(0, 24)
  if (header.length < 24) return
  const from = Number(header.readBigUInt64LE(16))
  const data = await read(from, 24)
  if (data.length === 24 && data.subarray(0, 16).equals(DATA)) yield from + Number(data.readBigUInt64LE(16))
}
