import { fork } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { ModelRef } from '../../../src/inference/port.ts'
import { rawFrameHeader, rawVideoHeader } from '../../../src/inference/tasks/video/matroska.ts'
import { ffmpegOrSkip } from '../../support/ffmpeg.ts'
import { FREE_IMAGE, identityOf, oneNode } from '../../support/graphs.ts'
import { resultsOf, startTestWorker, type Answer } from '../../support/worker.ts'
import { startWorkerPools } from '../../support/worker-pools.ts'

t.setTimeout(300_000)

const H264 = ['-c:v', 'libx264', '-preset', 'ultrafast', '-pix_fmt', 'yuv420p']
const picture = (size = '160x120', seconds = 1, rate = 25): string[] => ['-f', 'lavfi', '-i', `testsrc2=size=${size}:rate=${rate}:duration=${seconds}`]
const tone = (seconds = 1): string[] => ['-f', 'lavfi', '-i', `sine=frequency=440:sample_rate=48000:duration=${seconds}`]

/** Mean difference of two lists of bytes of one length; infinite where they have not. */
function difference(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return Infinity
  return a.reduce((sum, value, index) => sum + Math.abs(value - b[index]!), 0) / a.length
}

/** Processes that this one has started: their ids by the last words of their command lines. */
function children(): { pid: number, command: string }[] {
  return readdirSync('/proc').filter(name => /^\d+$/.test(name)).flatMap(name => {
    try {
      const [, parent] = /\) \S (\d+) /.exec(readFileSync(`/proc/${name}/stat`, 'utf8')) ?? []
      return parent === String(process.pid) ? [{ pid: Number(name), command: readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ') }] : []
    } catch {
      return []
    }
  })
}

/** Processes whose folder lies in this one. */
function workingIn(folder: string): string[] {
  return readdirSync('/proc').filter(name => {
    try {
      return /^\d+$/.test(name) && readlinkSync(`/proc/${name}/cwd`).startsWith(`${folder}/`)
    } catch {
      return false
    }
  })
}

/** With rubbish in that part of what is in it. */
function damaged(video: Uint8Array, from: number, to: number): Buffer {
  const bytes = Buffer.from(video)
  const at = bytes.indexOf('mdat') + 4
  const end = bytes.indexOf('moov') - 4
  bytes.fill(0xa5, at + Math.floor((end - at) * from), at + Math.floor((end - at) * to))
  return bytes
}

/** The last stream of sound is called so, and nothing else says what it is. */
function withSoundOf(codec: string, video: Uint8Array): Buffer {
  const bytes = Buffer.from(video)
  bytes.write(codec, bytes.lastIndexOf('mp4a'))
  bytes.write('xxxx', bytes.lastIndexOf('esds'))
  return bytes
}

/** A file whose header says so, and that holds next to nothing. */
function claims(width: number, height: number): Buffer {
  return Buffer.concat([rawVideoHeader({ width, height, channels: 3, frameNs: 40_000_000 }), rawFrameHeader(0n, 3), Buffer.alloc(3)])
}

const found = await ffmpegOrSkip(t)
if (found !== undefined) await testVideos(found)

async function testVideos(video: NonNullable<typeof found>): Promise<void> {
  const worker = await startTestWorker(t, { ffmpeg: video.ffmpeg, intraOpNumThreads: 2 })
  const identity = await worker.builtIn('identity-image')

  async function answerFor(bytes: Uint8Array | string, params: Record<string, unknown> = {}, model: ModelRef = identity): Promise<Answer> {
    return await worker.run('video-to-video', model, [await worker.put(bytes)], { params: { preset: 'ultrafast', ...params } })
  }

  async function through(bytes: Uint8Array, params: Record<string, unknown> = {}, model: ModelRef = identity): Promise<Buffer> {
    const [result] = resultsOf(await answerFor(bytes, params, model))
    return await worker.read(result!)
  }

  async function refusal(bytes: Uint8Array | string, model = identity): Promise<string> {
    const answer = await answerFor(bytes, {}, model)
    return answer.type === 'failed' ? `${answer.code}: ${answer.message}` : answer.type
  }

  const made = async (name: string, ...args: string[]): Promise<Buffer> => await video.make(name, [...picture(), ...tone(), ...args])
  const plain = await made('plain.mp4', ...H264)
  /** Long enough for something to happen meanwhile. */
  const long = await video.make('long.mp4', [...picture('320x240', 60), ...H264])

  t.test('the same model gives the same video: frames, times and sound', async t => {
    const [result] = resultsOf(await answerFor(plain))
    t.match(result, { name: 'video.mp4', filename: 'video.mp4', contentType: 'video/mp4' })
    const made = await worker.read(result!)
    const [stream, sound, ...more] = await video.probe(made)
    t.match(stream, { codec_name: 'h264', width: 160, height: 120, pix_fmt: 'yuv420p', nb_read_frames: '25', avg_frame_rate: '25/1', color_range: 'tv' })
    t.match(sound, { codec_name: 'aac' })
    t.same(more, [])
    t.ok(stream!.level! <= 20, 'a level for its size and rate')
    t.same(await video.times(made), await video.times(plain))
    t.equal(await video.sound(made), await video.sound(plain), 'not encoded again')
    t.ok(difference(await video.pixels(made), await video.pixels(plain)) < 4)
    t.ok(made.indexOf('moov') < made.indexOf('mdat'), 'it can be played while it is loaded')
  })

  t.test('a model that enlarges makes a larger video, in tiles like in one', async t => {
    const upscale = await worker.builtIn('upscale-2x')
    const whole = await through(plain, { quality: 0 }, upscale)
    t.match((await video.probe(whole))[0], { width: 320, height: 240, nb_read_frames: '25' })
    t.ok((await video.pixels(whole)).equals(await video.pixels(await through(plain, { quality: 0, tile: 64, overlap: 8 }, upscale))))
  })

  t.test('a model of one channel makes a grey video', async t => {
    const made = await through(plain, {}, await worker.builtIn('edges'))
    const pixels = await video.pixels(made)
    t.match((await video.probe(made))[0], { width: 160, height: 120, nb_read_frames: '25' })
    t.ok(pixels.every((value, index) => index % 3 === 0 || Math.abs(value - pixels[index - index % 3]!) <= 3))
  })

  t.test('a model of four channels keeps the colours, and one that takes no other size gets frames of its size', async t => {
    for (const shape of [['n', 4, 'h', 'w'], [1, 3, 64, 64], ['n', 'h', 'w', 3]]) {
      const made = await through(plain, {}, await worker.model(identityOf('float', shape), { task: 'image-to-image' }))
      t.ok(difference(await video.pixels(made), await video.pixels(plain)) < 4, JSON.stringify(shape))
    }
  })

  t.test('every frame keeps its time where the rate is not even', async t => {
    const uneven = ['-vf', "setpts='if(lt(N,8),N,8+(N-8)*3.37)/25/TB'", '-vsync', 'passthrough']
    for (const [name, args] of [['a.mp4', H264], ['a.mkv', H264], ['a.webm', ['-c:v', 'libvpx', '-deadline', 'realtime']]] as const) {
      const made = await video.make(name, [...picture(), ...uneven, ...args])
      const times = await video.times(made)
      t.ok(new Set(times.slice(1).map((time, index) => (time - times[index]!).toFixed(3))).size > 1, 'the test itself')
      t.same(await video.times(await through(made)), times, name)
    }
  })

  t.test('sound and picture stay together where one begins later', async t => {
    const sound = ['-itsoffset', '0.7', ...tone(2)]
    const late = ['-itsoffset', '0.6', ...picture()]
    for (const [name, inputs] of [['sound.mkv', [...picture(), ...sound]], ['picture.mkv', [...late, ...tone()]], ['picture.mp4', [...late, ...tone()]]] as const) {
      const original = await video.make(name, [...inputs, '-map', '0:v', '-map', '1:a', '-vsync', 'passthrough', ...H264, '-c:a', 'aac'])
      const apart = async (bytes: Buffer): Promise<number> => {
        const [picture_, sound_] = await video.probe(bytes)
        return Number(picture_!.start_time) - Number(sound_!.start_time)
      }
      const [before, after] = [await apart(original), await apart(await through(original))]
      t.ok(Math.abs(before) > 0.5, `the test itself, ${name}: ${before}`)
      t.ok(Math.abs(before - after) < 0.03, `${name}: ${before} s, and then ${after} s`)
    }
  })

  t.test('a video that was filmed sideways or upside down comes out upright', async t => {
    for (const [name, matrix] of [['right', [0, 1, -1, 0]], ['left', [0, -1, 1, 0]], ['over', [-1, 0, 0, -1]]] as const) {
      const turned = Buffer.from(plain)
      const at = turned.indexOf('tkhd') + 44
      const [a, b, c, d] = matrix
      for (const [offset, value] of [[0, a], [4, b], [12, c], [16, d]] as const) turned.writeInt32BE(value * 65_536, at + offset)
      const [stream] = await video.probe(turned)
      t.ok(stream!.side_data_list?.some(({ rotation }) => rotation !== undefined && rotation !== 0), 'the test itself')
      const made = await through(turned)
      t.match((await video.probe(made))[0], name === 'over' ? { width: 160, height: 120 } : { width: 120, height: 160 })
      t.ok(difference(await video.pixels(made), await video.pixels(turned)) < 4, name)
    }
  })

  t.test('odd sizes are continued by a pixel where the format has none, and pixels keep their shape', async t => {
    const odd = await video.make('odd.webm', ['-f', 'lavfi', '-i', 'testsrc=size=161x121:rate=25:duration=1', '-vf', 'setsar=4/3', '-pix_fmt', 'yuv420p', '-c:v', 'libvpx', '-deadline', 'realtime'])
    const mp4 = await through(odd)
    t.match((await video.probe(mp4))[0], { width: 162, height: 122, sample_aspect_ratio: '4:3' })
    const webm = await through(odd, { format: 'webm' })
    t.match((await video.probe(webm))[0], { codec_name: 'vp9', width: 161, height: 121, sample_aspect_ratio: '215:161' }, 'as near as whole pixels of the display come to it')
  })

  t.test('every container that is taken, and its sound', async t => {
    for (const [name, args, sound] of [
      ['a.mov', [...H264, '-c:a', 'pcm_s16le'], 'aac'], ['a.mkv', [...H264, '-c:a', 'flac', '-strict', '-2'], 'flac'], ['a.webm', ['-c:v', 'libvpx-vp9', '-deadline', 'realtime', '-c:a', 'libopus'], 'opus'],
      ['a.avi', ['-c:v', 'mpeg4', '-c:a', 'libmp3lame'], 'mp3'], ['a.wmv', ['-c:v', 'wmv2', '-c:a', 'wmav2'], 'aac']
    ] as const) {
      const original = await video.make(name, [...picture(), ...tone(), ...args])
      const made = await video.probe(await through(original))
      t.match(made.map(({ codec_name: codec }) => codec), ['h264', sound], name)
      t.equal(made[0]!.nb_read_frames, (await video.probe(original))[0]!.nb_read_frames, `${name}: no frame more or less`)
    }
  })

  t.test('sound of a kind that nobody knows is left out where there is other sound, and else is refused', async t => {
    const two = await video.make('two.mp4', [...picture(), ...tone(), ...tone(), '-map', '0', '-map', '1', '-map', '2', ...H264])
    t.equal((await video.probe(two)).length, 3, 'the test itself')
    const made = await through(withSoundOf('apac', two))
    t.same((await video.probe(made)).map(({ codec_name: codec }) => codec), ['h264', 'aac'])
    t.equal(await video.sound(made), await video.sound(plain))
    t.equal(await refusal(withSoundOf('apac', plain)), 'invalid_input: the video cannot be taken: its sound is of a kind that ffmpeg does not know')
    t.match(await refusal(withSoundOf('mhm1', plain)), /^invalid_input: the ffmpeg of this node cannot decode its sound: .*mpegh/)
  })

  t.test('colours go back the way they came, and the result says which', async t => {
    for (const matrix of ['bt709', 'smpte170m', 'bt2020nc']) {
      const original = await video.make('a.mp4', [...picture('128x96'), '-vf', `scale=out_color_matrix=${matrix.replace('nc', '')},format=yuv420p`, ...H264, '-colorspace', matrix, '-color_primaries', matrix.replace('nc', ''), '-color_trc', 'bt709'])
      const made = await through(original, { quality: 5 })
      t.match((await video.probe(made))[0], { color_space: matrix, color_primaries: matrix.replace('nc', '') })
      t.ok(difference(await video.pixels(made), await video.pixels(original)) < 3, matrix)
    }
  })

  t.test('progress is the frames that are done of those that were counted', async t => {
    const id = 'progress'
    resultsOf(await worker.run('video-to-video', identity, [await worker.put(long)], { id, params: { preset: 'ultrafast' } }))
    const said = worker.said.flatMap(message => (message.type === 'progress' && message.id === id ? [message] : []))
    t.match(said[0], { progress: null, message: 'counting frames' })
    const counted = said.filter(({ progress }) => progress !== null)
    t.ok(counted.length > 1)
    for (const { progress, message } of counted) {
      const [, done] = /^(\d+) of 1500 frames$/.exec(message!) ?? []
      t.equal(progress, Math.min(99, Number(done) / 15))
    }
    t.same(counted, counted.toSorted((a, b) => a.progress! - b.progress!))
  })

  t.test('what is no video is refused with the reason', async t => {
    t.equal(await refusal('a text that is longer than a header is'), 'invalid_input: the input is no video that is taken: MP4 and MOV, WebM and Matroska, AVI, WMV are')
    t.match(await refusal('short'), /^invalid_input: the input is no video that is taken/)
    t.match(await refusal(await video.make('a.png', [...picture(), '-frames:v', '1'])), /^invalid_input: the input is no video that is taken/)
    t.match(await refusal(Buffer.concat([plain.subarray(0, 40), Buffer.alloc(4000, 'x')])), /^invalid_input: the video cannot be taken: it is no MP4 or MOV that can be read: /)
    t.equal(await refusal(await video.make('a.mp4', tone())), 'invalid_input: the video cannot be taken: there is only sound in it, and no video')
    const cover = await video.make('a.png', [...picture(), '-frames:v', '1'])
    const withCover = await video.make('a.mp4', [...tone(), '-i', 'cover.png', '-map', '0', '-map', '1', '-c:v', 'copy', '-disposition:v:0', 'attached_pic'], { 'cover.png': cover })
    t.equal(await refusal(withCover), 'invalid_input: the video cannot be taken: there is only sound in it, and no video')
    const empty = await video.make('a.mp4', [...picture(), ...H264, '-frames:v', '0', '-movflags', 'empty_moov'])
    t.equal(await refusal(empty), 'invalid_input: the video cannot be taken: there is no frame in it')
    t.match(await refusal(''), 'invalid_input: the input is empty: this task takes one video')
  })

  t.test('what is cut off is refused, not made shorter', async t => {
    const whole: Record<string, Buffer> = {
      mp4: plain,
      mov: await made('a.mov', ...H264, '-movflags', '+faststart'),
      'mp4 in fragments': await made('a.mp4', ...H264, '-g', '5', '-movflags', '+frag_keyframe+empty_moov'),
      mkv: await made('a.mkv', ...H264),
      'mkv of no known length': await made('a.mkv', ...H264, '-live', '1'),
      webm: await made('a.webm', '-c:v', 'libvpx', '-deadline', 'realtime'),
      avi: await made('a.avi', '-c:v', 'mpeg4'),
      wmv: await made('a.wmv')
    }
    for (const [name, bytes] of Object.entries(whole)) {
      t.equal(await refusal(bytes), 'done', name)
      for (const part of [0.5, 0.8, 0.99]) t.equal(await refusal(bytes.subarray(0, bytes.length * part)), 'invalid_input: the video cannot be taken: it is cut off: the file ends before the video does', `${part} of ${name}`)
    }
  })

  t.test('what cannot be decoded is refused, and a little damage is concealed', async t => {
    t.match(await refusal(damaged(plain, 0, 1)), /^invalid_input: the video (cannot be decoded|has no frame that can be decoded|cannot be taken)/)
    const frames = Number((await video.probe(await through(damaged(plain, 0.9, 0.91))))[0]!.nb_read_frames)
    t.ok(frames >= 23 && frames <= 25, `${frames} frames`)
  })

  t.test('what is nothing but zeros from somewhere on is refused, not made shorter', async t => {
    for (const [name, args] of Object.entries({ 'a.mkv': H264, 'a.webm': ['-c:v', 'libvpx', '-deadline', 'realtime'], 'a.avi': ['-c:v', 'mpeg4'], 'a.wmv': [] as string[] })) {
      const bytes = await video.make(name, [...picture('160x120', 2), ...tone(2), ...args])
      const zeros = (from: number): Buffer => Buffer.from(bytes).fill(0, Math.floor(bytes.length * from))
      t.match(await refusal(zeros(0.6)), /^invalid_input: the video cannot be decoded: it is damaged, and of its 2\.\d s there are [01]\.\d left$/, name)
      t.equal(await refusal(zeros(0.98)), 'done', `nearly all of ${name}`)
    }
  })

  t.test('sizes and lengths that a header claims are judged before anything is decoded', async t => {
    t.match(await refusal(claims(60_000, 60_000)), /^invalid_input: the video cannot be taken: it has 60000 × 60000 = 3600000000 pixels a frame, more than the 37748736 that are taken/)
    t.match(await refusal(claims(20_000, 2)), 'invalid_input: the video cannot be taken: it has 20000 × 2 pixels, and a side may have 16384')
    const small = { ...identity, manifest: { ...identity.manifest as object, limits: { maxPixels: 1000 } } }
    t.match(await refusal(plain, small), 'invalid_input: the video cannot be taken: it has 160 × 120 = 19200 pixels a frame, more than the 1000 that are taken')
    // of the header of the stream: scale, rate (their quotient is that of frames), length
    const avi = await video.make('a.avi', [...picture(), '-c:v', 'mpeg4'])
    const claiming = (rate: number, length: number): Buffer => {
      const bytes = Buffer.from(avi)
      const at = bytes.indexOf('strh') + 8
      for (const [offset, value] of [[20, 1], [24, rate], [32, length]] as const) bytes.writeUInt32LE(value, at + offset)
      return bytes
    }
    t.equal(await refusal(claiming(25, 25)), 'done', 'the test itself')
    t.match(await refusal(claiming(25, 0x7fff_ffff)), /^invalid_input: the video cannot be taken: it says that it takes \d+ s, more than the 43200 that are taken/)
    t.match(await refusal(claiming(1000, 3_000_000)), /^invalid_input: the video cannot be taken: it says that it has \d+ frames, more than the 2000000 that are taken/)
  })

  t.test('a playlist is not followed, whatever it calls itself', async t => {
    const playlist = '#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n'
    for (const text of [playlist, 'ffconcat version 1.0\nfile /etc/hostname\n', '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://127.0.0.1:1/</BaseURL></MPD>', '[InternetShortcut]\nURL=http://127.0.0.1:1/\n']) {
      t.match(await refusal(text), /^invalid_input: the input is no video that is taken/)
    }
    for (const head of [Buffer.from('\0\0\0\x18ftypmp42'), Buffer.from('1a45dfa3', 'hex'), Buffer.from('RIFF\xff\xff\xff\0AVI LIST', 'latin1'), Buffer.from('3026b2758e66cf11a6d900aa0062ce6c', 'hex')]) {
      t.match(await refusal(Buffer.concat([head, Buffer.from(`\n${playlist}`)])), /^invalid_input: the video cannot be taken/)
    }
  })

  t.test('ffmpeg that is killed in the middle fails the attempt, which may be tried again', async t => {
    for (const which of ['-f rawvideo pipe:1', '-f mp4 file:result.mp4']) {
      const id = `killed ${which}`
      const answer = worker.run('video-to-video', identity, [await worker.put(long)], { id })
      while (!worker.said.some(message => message.type === 'progress' && message.id === id && message.progress !== null)) await new Promise(setImmediate)
      const victim = children().find(({ command }) => command.trim().endsWith(which))
      process.kill(victim!.pid, 'SIGKILL')
      t.match(await answer, { type: 'failed', code: 'resource_exhausted', retryable: true, message: 'ffmpeg was ended by SIGKILL' })
      t.same(children(), [], 'and nothing runs on')
      t.same(readdirSync(worker.settings.workDir), [])
    }
    t.match(await answerFor(plain), { type: 'done' }, 'and the worker goes on')
  })

  t.test('with a worker that is killed ffmpeg ends too', async t => {
    const pools = await startWorkerPools(t, { ffmpeg: video.ffmpeg })
    const { pool } = await pools.pool(t)
    const progressed = Promise.withResolvers<void>()
    const running = pool.run({ id: 'lost', task: 'video-to-video', model: await pools.builtIn('identity-image'), params: {}, inputs: [await pools.input(long)] }, {
      timeoutMs: 100_000, onProgress: ({ progress }) => { if (progress !== null) progressed.resolve() }
    })
    await Promise.race([running, progressed.promise])
    t.equal(workingIn(pools.folder).length, 2, 'one decodes, one encodes')
    process.kill(pool.status()[0]!.pid!, 'SIGKILL')
    await t.rejects(running, { code: 'worker_lost' })
    while (workingIn(pools.folder).length > 0) await new Promise(setImmediate)
  })

  t.test('with the service ffmpeg ends too', async t => {
    const pools = await startWorkerPools(t, { ffmpeg: video.ffmpeg })
    const host = fork(join(import.meta.dirname, '../../support/pool-host.ts'), { serialization: 'advanced' })
    const model = await pools.builtIn('identity-image')
    host.send({ options: pools.options, request: { id: 'orphan', task: 'video-to-video', model, params: {}, inputs: [await pools.input(long)] } })
    while (workingIn(pools.folder).length < 2) await delay(10)
    t.equal(host.kill('SIGKILL'), true)
    while (workingIn(pools.folder).length > 0) await delay(10)
    t.same(workingIn(pools.folder), [])
  })

  t.test('a cancel ends it, and nothing stays', async t => {
    const before = await worker.staged()
    const id = 'cancelled'
    const answer = worker.run('video-to-video', identity, [await worker.put(long)], { id })
    while (!worker.said.some(message => message.type === 'progress' && message.id === id && message.progress !== null)) await new Promise(setImmediate)
    worker.tell({ type: 'cancel', id })
    t.match(await answer, { type: 'failed', code: 'cancelled' })
    t.same(children(), [])
    t.same(readdirSync(worker.settings.workDir), [])
    t.same(await worker.staged(), before)
  })

  t.test('a model that makes no colours of it fails the run, and nothing stays', async t => {
    const divide = await worker.model(oneNode('Div', { type: 'float', shape: FREE_IMAGE }, undefined, { constants: [{ name: 'by', shape: [], data: [0] }] }), { task: 'image-to-image' })
    t.match(await refusal(await video.make('black.mp4', ['-f', 'lavfi', '-i', 'color=black:size=64x64:duration=1', ...H264]), divide), /^invalid_model: the model gave NaN/)
    t.same(children(), [])
  })
}

t.test('without ffmpeg a video is refused, and the reason says what to install', async t => {
  const without = await startTestWorker(t)
  t.match(await without.run('video-to-video', await without.builtIn('identity-image'), [await without.put('a video')]), {
    type: 'failed', code: 'invalid_input', retryable: false, message: 'this node takes no videos: ffmpeg and ffprobe, of version 4.3 or newer, must be on PATH (Debian and Ubuntu: apt-get install ffmpeg)'
  })
})
