import t from 'tap'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readlink } from 'node:fs/promises'
import { goesOn, startOverStub, type OverStub } from '../support/over-stub.ts'
import { eventually, rawClient, uploadHead } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'
import { nothingLeft } from '../support/nothing-left.ts'

const UPLOADS = 200
const AT_ONCE = 20
const body = randomBytes(300_000)

/** Open sockets and files of this process. */
async function descriptors(): Promise<number> {
  const names = await readdir('/proc/self/fd')
  const targets = await Promise.all(names.map(name => readlink(`/proc/self/fd/${name}`).catch(() => '')))
  return targets.filter(target => target.startsWith('socket:') || target.startsWith('/')).length
}

function watchWarnings(t: { teardown(end: () => void): unknown }): string[] {
  const warnings: string[] = []
  const note = (warning: Error): void => { if (warning.name !== 'ExperimentalWarning') warnings.push(`${warning.name}: ${warning.message}`) }
  process.on('warning', note)
  t.teardown(() => process.off('warning', note))
  return warnings
}

/** Uploads that all end early, in the ways that a client has: each on a connection of its own. */
async function abortedUploads(app: StartedApp, count: number): Promise<void> {
  for (let first = 0; first < count; first += AT_ONCE) {
    const before = app.logged('ingest.upload.client_aborted').length
    await Promise.all(Array.from({ length: AT_ONCE }, async (_, index) => {
      const client = await rawClient(app.port)
      client.send(uploadHead({ filename: 'x', size: String(body.length) }, { 'content-length': String(body.length) }))
      client.send(body.subarray(0, [0, 1, 100_000, body.length - 1][index % 4]))
      await eventually(() => assert.ok(app.logged('ingest.upload.put_start').length >= before + AT_ONCE), 10_000)
      if (index % 2 === 0) client.hangUp()
      else client.socket.destroy()
    }))
    await eventually(() => assert.equal(app.logged('ingest.upload.client_aborted').length, before + AT_ONCE), 10_000)
  }
}

t.test('many uploads that are aborted leave no socket, descriptor or listener, at the store neither', async t => {
  const warnings = watchWarnings(t)
  const over: OverStub = await startOverStub(t, { MAX_CONCURRENT_UPLOADS: String(AT_ONCE) })
  await abortedUploads(over.app, AT_ONCE)
  const [openBefore, atStoreBefore] = [await descriptors(), await over.stub.connections()]
  await abortedUploads(over.app, UPLOADS)
  await eventually(async () => {
    assert.ok(await descriptors() <= openBefore + 5, 'descriptors grew')
    assert.ok(await over.stub.connections() <= atStoreBefore + 5, 'connections to the store grew')
  })
  t.same(warnings, [])
  await goesOn(t, over)
})

t.test('many uploads that the store fails leave none either', async t => {
  const warnings = watchWarnings(t)
  const over: OverStub = await startOverStub(t)
  const staged = { operation: 'PutObject', key: /_staging/ } as const
  const busy = { kind: 'answer', status: 503, code: 'SlowDown' } as const
  const failing = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) {
      const undo = over.stub.fault(staged, [{ kind: 'cut', afterBytes: 1000 } as const, busy, { ...busy, afterBytes: 0 }, { kind: 'cut-answer' } as const][n % 4]!)
      assert.equal((await over.app.upload(body)).body.code, 'S3_PUT_FAILED')
      undo()
    }
  }
  await failing(10)
  const [openBefore, atStoreBefore] = [await descriptors(), await over.stub.connections()]
  await failing(60)
  await eventually(async () => {
    assert.ok(await descriptors() <= openBefore + 5, 'descriptors grew')
    assert.ok(await over.stub.connections() <= atStoreBefore + 5, 'connections to the store grew')
  })
  t.same(warnings, [])
  await goesOn(t, over)
})

t.test('many uploads that are aborted leave no file open or half written on disk', async t => {
  const warnings = watchWarnings(t)
  const app = await startApp(t, { MAX_CONCURRENT_UPLOADS: String(AT_ONCE) })
  await abortedUploads(app, AT_ONCE)
  const before = await descriptors()
  await abortedUploads(app, 100)
  await eventually(async () => { assert.ok(await descriptors() <= before + 5, 'descriptors grew') })
  t.same(warnings, [])
  await nothingLeft(app)
})

t.test('finalizes of one key at once leave no listener behind', async t => {
  const warnings = watchWarnings(t)
  const over = await startOverStub(t)
  const { body: { upload } } = await over.app.upload(body)
  const answers = await Promise.all(Array.from({ length: 40 }, () => over.app.post('/finalize', { key: upload.key })))
  t.same(answers.map(answer => answer.status), answers.map(() => 200))
  t.same(warnings, [])
  await goesOn(t, over, [answers[0]!.body.canonicalKey])
})
