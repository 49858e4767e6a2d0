import assert from 'node:assert/strict'
import t from 'tap'
import type { Test } from 'tap'
import { ACTIVITY_RETENTION_MS } from '../../src/limits.ts'
import { pruneMedia } from '../../src/files/media-prune.ts'
import { openRecordStore } from '../../src/stores.ts'
import { keep } from '../support/media.ts'
import { PEOPLE_ENV, user } from '../support/people.ts'
import { eventually } from '../support/raw-client.ts'
import { ask, share, type Headers } from '../support/shared-files.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

interface Line { seq: number, event: string, data: Record<string, unknown> }

/** Watches until the end of the test. */
async function watch(t: Test, app: StartedApp, headers: Headers, query = '') {
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const answer = await fetch(`${app.url}/events${query}`, { headers: { accept: 'application/x-ndjson', ...headers }, signal: stop.signal })
  assert.equal(answer.status, 200)
  const lines: Line[] = []
  let text = ''
  const ended = (async () => {
    for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk
      for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n')) {
        if (end > 0) lines.push(JSON.parse(text.slice(0, end)) as Line)
        text = text.slice(end + 1)
      }
    }
  })().catch(() => {})
  return { lines, ended, stop: () => stop.abort(), names: () => lines.map(({ event }) => event), until: (count: number) => eventually(() => assert.ok(lines.length >= count, JSON.stringify(lines)), 15_000) }
}

const JOB = { model: 'nobody', input: { tensors: [] } }

t.test('media and files of the caller are told of as they come and go, to all who watch, and to nobody else', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const [ada, bob] = [await user(app, 'ada'), await user(app, 'bob')]
  await keep(app, ada, Buffer.from('before'), { contentType: 'text/plain' })
  const watchers = [await watch(t, app, ada), await watch(t, app, ada)]
  const other = await watch(t, app, bob)
  for (const each of [...watchers, other]) await each.until(1)
  const path = await keep(app, ada)
  const file = await share(app, 'x', ada)
  await ask(app, 'DELETE', `/${path}`, undefined, ada)
  await ask(app, 'DELETE', `/files/${file}`, undefined, ada)
  for (const each of watchers) {
    await each.until(5)
    t.match(each.lines, [
      { seq: 1, event: 'ready', data: { seq: 1 } },
      { seq: 2, event: 'media_added', data: { file_id: path.split('/')[2], filename: 'cat.png', path, at: /Z$/ } },
      { seq: 3, event: 'file_added', data: { file_id: file, filename: 'notes.txt' } },
      { seq: 4, event: 'media_removed', data: { path } }, { seq: 5, event: 'file_removed', data: { file_id: file } }
    ])
    t.notOk('path' in each.lines[2]!.data)
  }
  await keep(app, bob)
  await other.until(2)
  t.strictSame(other.names(), ['ready', 'media_added'])
})

t.test('who comes again goes on where it was, on any node', async t => {
  const first = await startApp(t, PEOPLE_ENV)
  const second = await startApp(t, { ...PEOPLE_ENV, DATA_DIR: first.dataDir })
  const ada = await user(first, 'ada')
  for (let n = 0; n < 4; n++) await share(first, String(n), ada)
  const again = await watch(t, second, { ...ada, 'last-event-id': '2' })
  await again.until(3)
  t.match(again.lines, [{ seq: 2, event: 'ready' }, { seq: 3 }, { seq: 4 }])
  await share(first, 'from the other node', ada)
  await again.until(4)
  t.match(again.lines[3], { seq: 5, event: 'file_added' })
  const all = await watch(t, second, ada, '?after=0')
  await all.until(6)
  t.strictSame(all.lines.map(({ seq }) => seq), [0, 1, 2, 3, 4, 5])
  const future = await watch(t, first, { ...ada, 'last-event-id': '999' }, '?after=1')
  await future.until(1)
  t.match(future.lines, [{ seq: 5, event: 'ready' }], 'a number that was never given')
  for (const bad of ['-1', 'x', '1.5', '']) t.equal((await fetch(`${first.url}/events?after=${bad}`, { headers: ada })).status, 400, bad)
})

t.test('jobs are told of, to those who may read them', async t => {
  const app = await startApp(t, { ...PEOPLE_ENV })
  const records = openRecordStore(app.config)
  t.teardown(() => records.close())
  const ada = await user(app, 'ada')
  const watcher = await watch(t, app, ada)
  await watcher.until(1)
  t.equal((await ask(app, 'POST', '/api/v1/jobs', JOB, ada)).status >= 400, true)
  const { body: token } = await app.post('/admin/tokens', { kind: 'api', account: 'acme', subject: 'ada', scopes: ['penstock:job.read'] }, { authorization: `Bearer ${PEOPLE_ENV.ADMIN_TOKEN}` })
  const reader = await watch(t, app, { authorization: `Bearer ${token.token}` })
  await reader.until(1)
  const id = '0f8fad5b-d9cb-469f-a165-70867728950e'
  await records.jobs.create({
    id, owner: { subject: 'ada', account: 'acme', clientId: null }, userId: 'ada', model: { name: 'm', version: '1', sha256: 'm' }, task: 'tensor', params: {}, priority: 0, inputs: [],
    cache: false, memoKey: 'k', webhook: null, idempotency: null, reservation: null, queueMax: 10, stageTimings: {}
  })
  await records.jobs.requestCancel(id)
  await records.jobs.remove(id)
  await share(app, 'x', ada)
  await reader.until(5)
  t.match(reader.lines.slice(1), [{ seq: 1, event: 'job_queued', data: { job_id: id } }, { seq: 2, event: 'job_cancelled' }, { seq: 3, event: 'job_removed' }, { seq: 4, event: 'file_added' }])
  await watcher.until(2)
  t.strictSame(watcher.lines.map(({ seq, event }) => [seq, event]), [[0, 'ready'], [4, 'file_added']])
})

t.test('events that are not kept any more are said to be missing', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const records = openRecordStore(app.config)
  t.teardown(() => records.close())
  const ada = await user(app, 'ada')
  await share(app, '1', ada)
  await share(app, '2', ada)
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  await pruneMedia({ config: app.config, records, log }, () => false, Date.now() + ACTIVITY_RETENTION_MS + 1000)
  await share(app, '3', ada)
  const watcher = await watch(t, app, ada, '?after=0')
  await watcher.until(3)
  t.match(watcher.lines, [{ seq: 0, event: 'ready' }, { seq: 2, event: 'gap', data: { from: 1, to: 2 } }, { seq: 3, event: 'file_added' }])
})

t.test('browsers get server-sent events with ids, and streams end with the service', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const ada = await user(app, 'ada')
  await share(app, '1', ada)
  const answer = await fetch(`${app.url}/events?after=0`, { headers: ada })
  t.match(answer.headers.get('content-type'), /^text\/event-stream/)
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  while (!text.includes('file_added')) text += (await reader.read()).value ?? ''
  t.match(text, /^:\n\nid: 0\nevent: ready\ndata: \{"seq":0\}\n\nid: 1\nevent: file_added\ndata: \{"file_id":/)
  await app.app.stop()
  for (;;) {
    const { done, value } = await reader.read()
    text += value ?? ''
    if (done) break
  }
  t.match(text, /retry: \d+\n\n$/)
})
