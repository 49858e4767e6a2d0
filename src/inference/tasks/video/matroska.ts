/**
 * Frames with their time stamps on a pipe: a Matroska file (RFC 9559) of one track of uncompressed video, each frame in a
 * cluster of its own, the channels of its pixels in reverse. Raw video alone knows no time, and would have to have one rate.
 *
 *   EBML header, Segment of unknown size { Info, Tracks { TrackEntry } }      once
 *   Cluster { Timestamp, SimpleBlock { track, time 0, flags, the pixels } }   for each frame
 */
export interface RawTrack {
  width: number
  height: number
  channels: 1 | 3 | 4
  /** usual duration of a frame, ns */
  frameNs: number
}

/** Ids, with the bits of their length, as they stand in the file. */
const ID = {
  ebml: 0x1a45dfa3, docType: 0x4282, segment: 0x18538067, info: 0x1549a966, timestampScale: 0x2ad7b1, tracks: 0x1654ae6b, trackEntry: 0xae,
  trackNumber: 0xd7, trackUid: 0x73c5, trackType: 0x83, codecId: 0x86, defaultDuration: 0x23e383, video: 0xe0, pixelWidth: 0xb0, pixelHeight: 0xba,
  fourCc: 0x2eb524, cluster: 0x1f43b675, timestamp: 0xe7, simpleBlock: 0xa3
} as const

/** As ffmpeg calls packed pixels of bytes, red last: those become H.264's in a third of the time. */
const FOUR_CC = { 1: 'Y800', 3: 'BGR\x18', 4: 'ABGR' } as const

const VIDEO_TRACK = 1
const KEYFRAME = 0x80
/** All ones: it ends where the file ends. */
const UNKNOWN_SIZE = Buffer.from('01ffffffffffffff', 'hex')

export function rawVideoHeader({ width, height, channels, frameNs }: RawTrack): Buffer {
  const track = element(ID.trackEntry, [
    element(ID.trackNumber, unsigned(1)), element(ID.trackUid, unsigned(1)), element(ID.trackType, unsigned(VIDEO_TRACK)),
    element(ID.codecId, Buffer.from('V_UNCOMPRESSED')), element(ID.defaultDuration, unsigned(frameNs)),
    element(ID.video, [element(ID.pixelWidth, unsigned(width)), element(ID.pixelHeight, unsigned(height)), element(ID.fourCc, Buffer.from(FOUR_CC[channels], 'latin1'))])
  ])
  return Buffer.concat([
    element(ID.ebml, element(ID.docType, Buffer.from('matroska'))),
    idOf(ID.segment), UNKNOWN_SIZE,
    // time stamps count nanoseconds
    element(ID.info, element(ID.timestampScale, unsigned(1))),
    element(ID.tracks, track)
  ])
}

/** What stands before the pixels of a frame, of `bytes`. Times never fall. */
export function rawFrameHeader(timeNs: bigint, bytes: number): Buffer {
  const time = element(ID.timestamp, unsigned(timeNs))
  const blockHead = Buffer.from([0x80 | 1, 0, 0, KEYFRAME])
  const block = Buffer.concat([idOf(ID.simpleBlock), sizeOf(blockHead.length + bytes), blockHead])
  return Buffer.concat([idOf(ID.cluster), sizeOf(time.length + block.length + bytes), time, block])
}

function element(id: number, content: Buffer | Buffer[]): Buffer {
  const bytes = Array.isArray(content) ? Buffer.concat(content) : content
  return Buffer.concat([idOf(id), sizeOf(bytes.length), bytes])
}

function idOf(id: number): Buffer {
  const hex = id.toString(16)
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
}

/** In eight bytes, always: the first says so. */
function sizeOf(bytes: number): Buffer {
  const size = Buffer.alloc(8)
  size.writeBigUInt64BE(BigInt(bytes) | 1n << 56n)
  return size
}

function unsigned(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}
