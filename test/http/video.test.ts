/** The routes of the video application: on the edge over scripted jobs, and once through everything. */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { ffmpegOrSkip } from '../support/ffmpeg.ts'
import { jobRow } from '../support/job-rows.ts'
import { BOUNDARY, file, form, type FormPart } from '../support/multipart.ts'
import { ADMIN, startApp } from '../support/start-app.ts'
import { startJobs, type JobsEdge } from '../support/start-jobs.ts'

t.setTimeout(300_000)

interface Sent { status: number, body: any } // eslint-disable-line typescript/no-explicit-any

async function send(url: string, parts: readonly FormPart[], headers: Record<string, string> = {}): Promise<Sent> {
  const answer = await fetch(`${url}/api/upload`, {
    method: 'POST', body: form(parts) as NonNullable<RequestInit['body']>, headers: { 'content-type': `multipart/form-data; boundary=${BOUNDARY}`, ...headers }
  })
  return { status: answer.status, body: await answer.json() }
}

const clip = (bytes = 'a video', filename = 'a.mp4'): FormPart => file(bytes, 'video', filename, 'video/mp4')

/** A job that has ended well, with a result of these bytes. */
async function completed(edge: JobsEdge): Promise<string> {
  const result = await edge.file(Buffer.from('the result'), { filename: 'video.mp4', contentType: 'video/mp4' })
  const original = await edge.file(Buffer.from('the original'))
  const job = jobRow({
    status: 'completed', progress: 100,
    inputs: [{ name: 'input', position: 0, fileId: null, sha256: original.sha256, key: original.key, size: original.size, contentType: 'video/quicktime', filename: 'my holiday.mov' }],
    results: [{ name: 'video.mp4', fileId: result.id, sha256: result.sha256, key: result.key, size: result.size, contentType: result.contentType }]
  })
  edge.jobs.jobs.set(job.id, job)
  edge.jobs.files.set('video.mp4', result)
  return job.id
}

t.test('a video becomes a job for the default model', async t => {
  const edge = await startJobs(t, { env: { DEFAULT_VIDEO_MODEL: 'identity-image' } })
  const { status, body } = await send(edge.url, [clip()])
  t.equal(status, 201)
  t.match(body, { jobId: String })
  t.same(Object.keys(body), ['jobId'])
  t.match(edge.jobs.drafts[0], { parts: [{ name: 'input', filename: 'a.mp4', contentType: 'video/mp4', bytes: 7 }], committed: { model: 'identity-image', video: true } })
  t.equal((await send(edge.url, [clip(), ['model', 'edges'], ['params', '{"format":"webm"}']])).status, 201)
  t.same(edge.jobs.drafts[1]?.committed, { model: 'edges', params: { format: 'webm' }, video: true })
})

t.test('what is no form with one video of a name that is taken is refused', async t => {
  const edge = await startJobs(t, { env: { MAX_FILE_SIZE_MB: '1' } })
  t.match(await send(edge.url, []), { status: 400, body: { error: { code: 'invalid_multipart', message: 'the file "video" is missing' } } })
  t.match(await send(edge.url, [file('x', 'input')]), { status: 400, body: { error: { code: 'invalid_multipart', message: 'the file "input" is not known here: it must be video' } } })
  t.match(await send(edge.url, [clip(), clip()]), { status: 400, body: { error: { code: 'invalid_multipart', message: 'there is more than one input' } } })
  t.match(await send(edge.url, [clip(), ['user_id', 'ann']]), { status: 400, body: { error: { code: 'invalid_multipart' } } })
  for (const name of ['a.m3u8', 'a', 'mp4', 'a.mp4.txt']) {
    t.match(await send(edge.url, [clip('x', name)]), { status: 415, body: { error: { code: 'unsupported_media_type', message: 'the name of a video ends with one of .mp4, .avi, .mkv, .mov, .wmv, .webm' } } }, name)
  }
  t.equal((await send(edge.url, [clip('x', 'HOLIDAY.MP4')])).status, 201)
  const answer = await fetch(`${edge.url}/api/upload`, { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } })
  t.equal(answer.status, 415)
})

t.test('a video that is too large is refused, and nothing of it stays', async t => {
  const edge = await startJobs(t, { env: { MAX_FILE_SIZE_MB: '1' } })
  const { status, body } = await send(edge.url, [clip('x'.repeat(1024 * 1024 + 1))])
  t.equal(status, 413)
  t.match(body, { error: { code: 'file_too_large', details: { limit_bytes: 1024 * 1024 } } })
  t.match(edge.jobs.drafts, [{ discarded: 1, committed: undefined }])
})

t.test('names with quotes, line ends and paths are names', async t => {
  const edge = await startJobs(t)
  for (const name of ['it%22s %0D%0A; $(reboot).mp4', '../../etc/passwd.mp4', '-i.mp4', "'x'.mp4", 'видео 🎬.mp4']) {
    t.equal((await send(edge.url, [clip('x', name)])).status, 201, name)
  }
})

t.test('how far a job is, in the words of the application', async t => {
  const edge = await startJobs(t)
  const at = { createdAt: Date.UTC(2026, 0, 31), updatedAt: Date.UTC(2026, 0, 31, 1) }
  const times = { createdAt: '2026-01-31T00:00:00.000Z', updatedAt: '2026-01-31T01:00:00.000Z' }
  const failure = { code: 'invalid_input', message: 'the video cannot be taken: there is no frame in it' }
  for (const [job, shown] of [
    [jobRow({ ...at, status: 'processing', progress: 40 }), { state: 'processing', progress: 40 }],
    [jobRow({ ...at, status: 'queued', progress: null }), { state: 'queued', progress: null }],
    [jobRow({ ...at, status: 'failed', progress: null, failure }), { state: 'failed', progress: null, error: failure }]
  ] as const) {
    edge.jobs.jobs.set(job.id, job)
    t.same(await (await edge.call('GET', `/api/upload/status/${job.id}`)).json(), { jobId: job.id, ...times, ...shown })
    t.same(await (await edge.call('POST', `/api/upload/cancel/${job.id}`)).json(), { jobId: job.id, ...times, ...shown })
    for (const path of [`/api/upload/result/${job.id}`, `/api/upload/stream/${job.id}`]) {
      const answer = await edge.call('GET', path)
      t.equal(answer.status, 400)
      t.match(await answer.json(), { error: { code: 'validation_error', message: `jobId is of a job that is ${job.status}, and has no result` } })
    }
  }
  for (const path of ['status', 'result', 'stream', 'events']) t.equal((await edge.call('GET', `/api/upload/${path}/nothing`)).status, 404, path)
})

t.test('a result is named, and played in any range; so is the original', async t => {
  const edge = await startJobs(t, { env: { PUBLIC_BASE_URL: 'https://video.example.com' } })
  const id = await completed(edge)
  t.same(await (await edge.call('GET', `/api/upload/result/${id}`)).json(), {
    jobId: id, downloadUrl: `https://video.example.com/api/v1/jobs/${id}/results/video.mp4`, originalFilename: 'my holiday.mov', outputFilename: 'video.mp4'
  })
  const whole = await edge.call('GET', `/api/upload/stream/${id}`)
  t.same([whole.status, whole.headers.get('content-type'), await whole.text()], [200, 'video/mp4', 'the result'])
  t.match(whole.headers.get('content-disposition'), /^inline; filename="video.mp4"/)
  const part = await edge.call('GET', `/api/upload/stream/${id}`, { headers: { range: 'bytes=4-' } })
  t.same([part.status, part.headers.get('content-range'), await part.text()], [206, 'bytes 4-9/10', 'result'])
  t.equal((await edge.call('GET', `/api/upload/stream/${id}`, { headers: { range: 'bytes=10-' } })).status, 416)
  const original = await edge.call('GET', `/api/upload/stream/${id}?source=input`, { headers: { range: 'bytes=4-7' } })
  t.same([original.status, original.headers.get('content-type'), await original.text()], [206, 'video/quicktime', 'orig'])
  const head = await edge.call('HEAD', `/api/upload/stream/${id}`)
  t.same([head.status, head.headers.get('content-length')], [200, '10'])
  t.equal((await edge.call('GET', `/api/upload/stream/${id}?source=other`)).status, 400)
})

const video = await ffmpegOrSkip(t)
if (video !== undefined) {
  t.test('from the video to the result, with what happens in between', { timeout: 240_000 }, async t => {
    const { env } = video
    const app = await startApp(t, { ...env, ROLES: 'api,worker', WORKERS: '1', DEVICE: 'cpu', DEFAULT_VIDEO_MODEL: 'identity-image' })
    t.same(app.logged('video.ffmpeg.missing'), [])
    const bytes = await video.make('a.mp4', ['-f', 'lavfi', '-i', 'testsrc2=size=320x240:rate=25:duration=20', '-c:v', 'libx264', '-pix_fmt', 'yuv420p'])
    const { status, body } = await send(app.url, [{ name: 'video', filename: 'my %22first%22%0D%0Avideo.mp4', type: 'application/octet-stream', bytes }], ADMIN)
    t.equal(status, 201)
    const get = async (path: string): Promise<Response> => await fetch(`${app.url}/api/upload/${path}`, { headers: ADMIN })
    const events = await (await get(`events/${body.jobId}`)).text()
    t.match(events, /event: generation_progress\ndata: \{[^\n]*"message":"\d+ of 500 frames"/)
    t.match(events, /event: generation_complete/)
    t.match(await (await get(`status/${body.jobId}`)).json(), { state: 'completed', progress: 100 })
    t.match(await (await get(`result/${body.jobId}`)).json(), { originalFilename: 'my_22first_22_0D_0Avideo.mp4', outputFilename: 'video.mp4' })
    t.match((await video.probe(Buffer.from(await (await get(`stream/${body.jobId}`)).arrayBuffer())))[0], { codec_name: 'h264', nb_read_frames: '50' })
    t.ok(Buffer.from(await (await get(`stream/${body.jobId}?source=input`)).arrayBuffer()).equals(bytes))

    const job = await app.post('/api/v1/jobs', { model: 'edges', task: 'video-to-video', input: { sha256: (await (await fetch(`${app.url}/api/v1/jobs/${body.jobId}`, { headers: ADMIN })).json() as { input: { sha256: string } }).input.sha256 } })
    t.equal(job.status, 202, 'a video that is there already')
    t.match(await app.post('/api/v1/jobs', { model: 'identity', task: 'video-to-video', input: { sha256: job.body.input.sha256 } }), {
      status: 400, body: { error: { details: { fields: [{ field: 'task', message: 'must be tensor, which this model is for' }] } } }
    })
    t.match(await app.post('/api/v1/jobs', { model: 'edges', task: 'video-to-video', params: { format: 'gif' }, input: { sha256: job.body.input.sha256 } }), { status: 400 })

    const long = await video.make('long.mp4', ['-f', 'lavfi', '-i', 'testsrc2=size=640x480:rate=25:duration=60', '-c:v', 'libx264', '-preset', 'ultrafast', '-pix_fmt', 'yuv420p'])
    const second = await send(app.url, [clip(), ['params', '{"preset":"slow"}']].with(0, { name: 'video', filename: 'long.mp4', type: 'video/mp4', bytes: long }) as FormPart[], ADMIN)
    const progressOf = async (): Promise<{ state: string, progress: number | null }> => await (await get(`status/${second.body.jobId}`)).json() as { state: string, progress: number | null }
    while (((await progressOf()).progress ?? 0) === 0) await delay(20)
    t.equal((await fetch(`${app.url}/api/upload/cancel/${second.body.jobId}`, { method: 'POST', headers: ADMIN })).status, 200)
    await (await get(`events/${second.body.jobId}`)).text()
    t.match(await progressOf(), { state: 'cancelled' })
  })
}

t.test('a service without ffmpeg says so at its start, and takes no videos', { timeout: 60_000 }, async t => {
  const app = await startApp(t, { ROLES: 'api,worker', WORKERS: '1', DEVICE: 'cpu', PATH: '/nowhere' })
  t.match(app.logged('video.ffmpeg.missing'), [{ level: 'warn', msg: /^no videos are taken here: ffmpeg and ffprobe, of version 4.3 or newer, must be on PATH/ }])
  const { body } = await send(app.url, [clip()], ADMIN)
  await (await fetch(`${app.url}/api/upload/events/${body.jobId}`, { headers: ADMIN })).text()
  t.match(await (await fetch(`${app.url}/api/upload/status/${body.jobId}`, { headers: ADMIN })).json(), { state: 'failed', error: { code: 'invalid_input', message: /must be on PATH/ } })
})
