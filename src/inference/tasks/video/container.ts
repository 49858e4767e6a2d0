/**
 * Which kind of file a video is, by what it begins with. ffmpeg is told, and guesses nothing: what it guesses may be a list of
 * other files (HLS, DASH, concat), which it would read.
 */
export interface Container { name: string, demuxer: 'mov' | 'matroska' | 'avi' | 'asf' }

const MOV_ATOMS = new Set(['ftyp', 'moov', 'mdat', 'wide', 'free', 'skip', 'pnot'])
const ASF = Buffer.from('3026b2758e66cf11a6d900aa0062ce6c', 'hex')

const CONTAINERS: readonly (Container & { matches(head: Buffer): boolean })[] = [
  { name: 'MP4 and MOV', demuxer: 'mov', matches: head => MOV_ATOMS.has(head.toString('latin1', 4, 8)) },
  { name: 'WebM and Matroska', demuxer: 'matroska', matches: head => head.readUInt32BE(0) === 0x1a45dfa3 },
  { name: 'AVI', demuxer: 'avi', matches: head => head.toString('latin1', 0, 4) === 'RIFF' && head.toString('latin1', 8, 11) === 'AVI' },
  { name: 'WMV', demuxer: 'asf', matches: head => head.subarray(0, 16).equals(ASF) }
]

export const CONTAINER_NAMES = CONTAINERS.map(({ name }) => name).join(', ')
export const CONTAINER_HEAD_BYTES = 16

/** Undefined: none that is taken. */
export function containerOf(head: Buffer): Container | undefined {
  return head.length < CONTAINER_HEAD_BYTES ? undefined : CONTAINERS.find(({ matches }) => matches(head))
}
