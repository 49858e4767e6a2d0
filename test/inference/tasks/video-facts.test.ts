/** What is said of a video before anything of it is decoded. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { containerOf } from '../../../src/inference/tasks/video/container.ts'
import { countFrames, readFacts, type VideoSource } from '../../../src/inference/tasks/video/facts.ts'
import { isCutOff } from '../../../src/inference/tasks/video/whole.ts'
import { ffmpegOrSkip } from '../../support/ffmpeg.ts'

t.setTimeout(120_000)

/** The demuxer for a file that begins so. */
function named(head: string | Buffer): string | undefined {
  return containerOf(Buffer.concat([Buffer.from(head), Buffer.alloc(16)]))?.demuxer
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')
const asf = (header: string, data: string): Buffer => hex(`3026b2758e66cf11a6d900aa0062ce6c ${header} 3626b2758e66cf11a6d900aa0062ce6c ${data}`)

const video = await ffmpegOrSkip(t)

if (video !== undefined) {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-facts-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const bytes = await video.make('a.mkv', ['-f', 'lavfi', '-i', 'testsrc2=size=64x48:rate=30000/1001:duration=1', '-c:v', 'libx264', '-colorspace', 'bt709'])
  await writeFile(join(folder, 'input'), bytes)
  const source = (signal = new AbortController().signal): VideoSource => ({ ffmpeg: video.ffmpeg, container: containerOf(bytes.subarray(0, 16))!, folder, maxPixels: 1e6, signal })

  t.test('size, rate, time and colours of a header, and the frames behind it', async t => {
    t.same(await readFacts(source()), { width: 64, height: 48, aspect: { num: 1, den: 1 }, timeBase: { num: 1, den: 1000 }, rate: { num: 30_000, den: 1001 }, seconds: 1.001, colours: { matrix: 'bt709' }, sounds: [] })
    t.equal(await countFrames(source()), 30)
  })

  t.test('frames that take too long to count are not counted, and nothing is made up', async t => {
    t.equal(await countFrames(source(), 0), null)
  })

  t.test('a cancel ends it', async t => {
    const cancel = new AbortController()
    const counting = countFrames(source(cancel.signal))
    cancel.abort()
    await t.rejects(counting)
    await t.rejects(readFacts(source(AbortSignal.abort())))
  })
}

t.test('a container is known by its first bytes alone', async t => {
  t.equal(named('\0\0\0\x18ftypisom'), 'mov')
  t.equal(named('\0\0\0\x08wide'), 'mov')
  t.equal(named(Buffer.from('1a45dfa3', 'hex')), 'matroska')
  t.equal(named('RIFF\x01\0\0\0AVI LIST'), 'avi')
  t.equal(named('RIFF\x01\0\0\0WAVEfmt '), undefined)
  for (const other of ['#EXTM3U\n#EXT-X', 'ffconcat version 1.0', '<?xml version="1.0"?>', 'YUV4MPEG2 W1 H1', '']) t.equal(named(other), undefined, other)
  t.equal(containerOf(Buffer.from('\0\0\0\x18ftyp')), undefined, 'too short')
})

t.test('a file that says no length, or a shorter one, is not cut off', async t => {
  const folder = t.testdir()
  const cut = async (...parts: (string | Buffer)[]): Promise<boolean> => {
    const bytes = Buffer.concat(parts.map(part => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)))
    await writeFile(join(folder, 'input'), bytes)
    return await isCutOff(containerOf(Buffer.concat([bytes, Buffer.alloc(16)]))!, join(folder, 'input'))
  }
  const nothing = Buffer.alloc(100)

  const ftyp = '\0\0\0\x10ftypisom\0\0\0\0'
  t.equal(await cut(ftyp, '\0\0\0\x6cmdat', nothing), false)
  t.equal(await cut(ftyp, '\0\0\0\x6dmdat', nothing), true)
  t.equal(await cut(ftyp, hex('00000001 6d646174 0000000000000074'), nothing), false)
  t.equal(await cut(ftyp, hex('00000001 6d646174 0000000000000075'), nothing), true)
  t.equal(await cut(ftyp, hex('00000001 6d646174 ffffffffffffffff'), nothing), true)
  t.equal(await cut(ftyp, '\0\0\0\0mdat', nothing), false, 'to the end, wherever that is')
  t.equal(await cut(ftyp, '\xff\xff\xff\xffjunk', nothing), false, 'what is no box')
  t.equal(await cut(ftyp, '\0\0\0\x08free'.repeat(200_000)), false, 'no end of them')

  const ebml = hex('1a45dfa3 84 00000000 18538067')
  t.equal(await cut(ebml, hex('e4'), nothing), false)
  t.equal(await cut(ebml, hex('e5'), nothing), true)
  t.equal(await cut(ebml, hex('0100000000000064'), nothing), false)
  t.equal(await cut(ebml, hex('01fffffffffffffe'), nothing), true)
  for (const unknown of ['ff', '7fff', '01ffffffffffffff']) t.equal(await cut(ebml, hex(unknown), nothing), false, unknown)
  t.equal(await cut(hex('1a45dfa3 01fffffffffffffe'), nothing), false, 'nothing comes behind such a header')
  t.equal(await cut(hex('1a45dfa3 00'), nothing), false, 'longer than a length may be')

  t.equal(await cut('RIFF\x64\0\0\0AVI ', nothing), false)
  t.equal(await cut('RIFF\x68\0\0\0AVI ', nothing, 'RIFF\x68\0\0\0AVIX', nothing), false, 'OpenDML')
  t.equal(await cut('RIFF\x68\0\0\0AVI ', nothing, 'RIFF\x71\0\0\0AVIX', nothing), true)
  for (const unknown of ['\0\0\0\0', '\xff\xff\xff\xff']) t.equal(await cut(`RIFF${unknown}AVI `, nothing), false, 'it was sent while it was written')

  t.equal(await cut(asf('1800000000000000', '7c00000000000000'), nothing), false)
  t.equal(await cut(asf('1800000000000000', '7d00000000000000'), nothing), true)
  t.equal(await cut(asf('1800000000000000', '0000000000000000'), nothing), false)
  t.equal(await cut(asf('ffffffffffffffff', '0000000000000000'), nothing), false)
})
