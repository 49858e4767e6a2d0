/**
 * Decoded pixels, packed bytes, of which any rectangle is read and written: in memory, or on disk, so that no image has to
 * fit. There they lie in libvips' own format, a header of 64 bytes and then row upon row, which sharp writes and reads as a
 * stream.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { InferenceFailed } from '../port.ts'
import type { Channels, Pixels, Target } from './image-tensor.ts'

const HEADER_BYTES = 64
const MAGIC = 0xb6a6f208
/** Byte offsets of the header's 32-bit fields, and what they are for unsigned bytes without coding. */
const AT = { width: 4, height: 8, bands: 12, bits: 16, format: 20, coding: 24, type: 28, xres: 32, yres: 36 } as const
const UCHAR = 0
/** Greyscale is 1, sRGB is 22. */
const TYPES = { 1: 1, 3: 22, 4: 22 } as const

/** At least so many bytes, whatever is in them; each time the same ones. */
type Memory = (bytes: number) => ArrayBuffer

function bytesIn(memory: Memory, size: number): Uint8Array {
  return new Uint8Array(memory(size), 0, size)
}

export interface Rectangle { left: number, top: number, width: number, height: number }

interface Size { width: number, height: number }

export interface RawImage extends Size {
  /** Of the image as it is to be seen, by its orientation; not beyond its borders. */
  read(region: Rectangle): Pixels
  close(): void
}

/** Where a rectangle of the stored image begins in `bytes`, and how long its rows are there. */
interface Stored { bytes: Uint8Array, start: number, row: number }

/** `orientation` as in EXIF: the image is read upright, whichever way it is stored. */
export function rawImageInMemory(bytes: Uint8Array, size: Size, channels: Channels, orientation = 1): RawImage {
  const row = size.width * channels
  return upright(size, channels, orientation, ({ left, top }) => ({ bytes, start: top * row + left * channels, row }), () => {})
}

/** The same of a file that sharp wrote; what is read lies in `memory`, until the next is. */
export function openRawImage(path: string, channels: Channels, memory: Memory, orientation = 1): RawImage {
  const file = openSync(path, 'r')
  try {
    const size = readHeader(file, channels)
    const read = (region: Rectangle): Stored => ({ bytes: readRectangle(file, channels, size.width, region, memory), start: 0, row: region.width * channels })
    return upright(size, channels, orientation, read, () => closeSync(file))
  } catch (error) {
    closeSync(file)
    throw error
  }
}

/** Each orientation is a mirror, a transposition, or both: the stored pixels stay where they are, and are walked another way. */
function upright(stored: Size, channels: Channels, orientation: number, readStored: (region: Rectangle) => Stored, close: () => void): RawImage {
  const transposed = orientation > 4
  const mirroredX = [2, 3, 7, 8].includes(orientation)
  const mirroredY = [3, 4, 6, 7].includes(orientation)
  const size = transposed ? { width: stored.height, height: stored.width } : { width: stored.width, height: stored.height }
  return {
    ...size,
    close,
    read({ left, top, width, height }) {
      const [x, w, y, h] = transposed ? [top, height, left, width] : [left, width, top, height]
      const { bytes, start, row } = readStored({ left: mirroredX ? stored.width - x - w : x, top: mirroredY ? stored.height - y - h : y, width: w, height: h })
      const across = mirroredX ? -channels : channels
      const along = mirroredY ? -row : row
      const first = start + (mirroredX ? (w - 1) * channels : 0) + (mirroredY ? (h - 1) * row : 0)
      return { bytes, start: first, right: transposed ? along : across, down: transposed ? across : along, width, height }
    }
  }
}

function readHeader(file: number, channels: Channels): Size {
  const header = Buffer.alloc(HEADER_BYTES)
  readSync(file, header, 0, HEADER_BYTES, 0)
  const [bands, format] = [header.readInt32LE(AT.bands), header.readInt32LE(AT.format)]
  if (header.readUInt32BE(0) !== MAGIC || bands !== channels || format !== UCHAR) {
    throw new InferenceFailed('internal_error', `the image was decoded to ${bands} channels of format ${format}, not to ${channels} of bytes`)
  }
  return { width: header.readInt32LE(AT.width), height: header.readInt32LE(AT.height) }
}

function readRectangle(file: number, channels: Channels, rowPixels: number, { left, top, width, height }: Rectangle, memory: Memory): Uint8Array {
  const bytes = bytesIn(memory, width * height * channels)
  if (width === rowPixels) readExactly(file, bytes, HEADER_BYTES + top * rowPixels * channels)
  else for (let y = 0; y < height; y += 1) {
    const at = HEADER_BYTES + ((top + y) * rowPixels + left) * channels
    readExactly(file, bytes.subarray(y * width * channels, (y + 1) * width * channels), at)
  }
  return bytes
}

function readExactly(file: number, into: Uint8Array, at: number): void {
  for (let done = 0; done < into.length;) {
    const read = readSync(file, into, done, into.length - done, at + done)
    if (read === 0) throw new InferenceFailed('internal_error', 'the decoded image is shorter than its header says')
    done += read
  }
}

export interface RawImageWriter {
  /** Lets `fill` make the pixels of the region where they are to be. Each pixel once. */
  write(region: Rectangle, fill: (target: Target) => void): void
  /** What sharp reads it from; after close(). */
  source: Buffer | string
  close(): void
}

export function createRawImageInMemory({ width, height }: Size, channels: Channels, memory: Memory): RawImageWriter {
  const size = width * height * channels
  const source = Buffer.from(memory(size), 0, size)
  return {
    source,
    write({ left, top }, fill) {
      fill({ bytes: source, start: (top * width + left) * channels, down: width * channels })
    },
    close() {}
  }
}

/** In a fresh file, by way of `memory`. */
export function createRawImage(path: string, { width, height }: Size, channels: Channels, memory: Memory): RawImageWriter {
  const file = openSync(path, 'wx')
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32BE(MAGIC, 0)
  header.writeInt32LE(width, AT.width)
  header.writeInt32LE(height, AT.height)
  header.writeInt32LE(channels, AT.bands)
  header.writeInt32LE(8, AT.bits)
  header.writeInt32LE(TYPES[channels], AT.type)
  header.writeFloatLE(1, AT.xres)
  header.writeFloatLE(1, AT.yres)
  writeExactly(file, header, 0)
  return {
    source: path,
    write(region, fill) {
      const bytes = bytesIn(memory, region.width * region.height * channels)
      fill({ bytes, start: 0, down: region.width * channels })
      eachRow(region, bytes, width, channels, (part, at) => writeExactly(file, part, HEADER_BYTES + at))
    },
    close: () => closeSync(file)
  }
}

/** Where the rows of a packed rectangle belong in the whole; all at once where it is as wide. */
function eachRow({ left, top, width, height }: Rectangle, bytes: Uint8Array, whole: number, channels: Channels, put: (part: Uint8Array, at: number) => void): void {
  if (width === whole) return put(bytes, top * whole * channels)
  const row = width * channels
  for (let y = 0; y < height; y += 1) put(bytes.subarray(y * row, (y + 1) * row), ((top + y) * whole + left) * channels)
}

function writeExactly(file: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length;) done += writeSync(file, bytes, done, bytes.length - done, at + done)
}
