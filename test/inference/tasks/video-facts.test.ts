/** What is said of a video before anything of it is decoded. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { containerOf } from '../../../src/inference/tasks/video/container.ts'
import { countFrames, readFacts, type VideoSource } from '../../../src/inference/tasks/video/facts.ts'
import { ffmpegOrSkip } from '../../support/ffmpeg.ts'

t.setTimeout(120_000)

/** The demuxer for a file that begins so. */
function named(head: string | Buffer): string | undefined {
  return containerOf(Buffer.concat([Buffer.from(head), Buffer.alloc(16)]))?.demuxer
}

const video = await ffmpegOrSkip(t)

if (video !== undefined) {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-facts-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const bytes = await video.make('a.mkv', ['-f', 'lavfi', '-i', 'testsrc2=size=64x48:rate=30000/1001:duration=1', '-c:v', 'libx264', '-colorspace', 'bt709'])
  await writeFile(join(folder, 'input'), bytes)
  const source = (signal = new AbortController().signal): VideoSource => ({ ffmpeg: video.ffmpeg, container: containerOf(bytes.subarray(0, 16))!, folder, maxPixels: 1e6, signal })

  t.test('size, rate, time and colours of a header, and the frames behind it', async t => {
    t.same(await readFacts(source()), { width: 64, height: 48, aspect: { num: 1, den: 1 }, timeBase: { num: 1, den: 1000 }, rate: { num: 30_000, den: 1001 }, colours: { matrix: 'bt709' }, sounds: [] })
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
