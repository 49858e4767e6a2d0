/** Memory of chunks that goes before the collector comes: only where nobody else looks at it. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { claimMemory, giveBack, giveBackClaimed } from '../../src/objects/give-back.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import { putUnknownLength } from '../../src/objects/put-unknown-length.ts'
import { collect } from '../contract/object-store.ts'
import { notedIntents } from '../support/intents.ts'
import { openFs, openMemory, openStub } from '../support/object-stores.ts'
import { completedRow } from '../support/job-rows.ts'
import { eventually } from '../support/raw-client.ts'
import { startJobs } from '../support/start-jobs.ts'

t.test('what is whole goes, what is a slice stays', async t => {
  const whole = Buffer.allocUnsafeSlow(100)
  giveBack(whole)
  t.equal(whole.length, 0)
  giveBack(whole)
  const memory = Buffer.allocUnsafeSlow(100).fill('x')
  for (const slice of [memory.subarray(1), memory.subarray(0, 99)]) giveBack(slice)
  t.equal(memory.length, 100)
  giveBack(new Uint8Array(new SharedArrayBuffer(10)))
})

t.test('a body of unknown length gives back the memory that was claimed for it, however it is sliced, and is stored whole', async t => {
  const { store: s3 } = await openStub(t)
  for (const store of [await openMemory(), await openFs(t), s3]) {
    for (const claimed of [true, false]) {
      const memory = Array.from({ length: 25 }, () => Buffer.from(new Uint8Array(randomBytes(400)).buffer))
      if (claimed) memory.forEach(claimMemory)
      const wanted = createHash('sha256').update(Buffer.concat(memory)).digest('hex')
      // of each a byte less than there is, and then that byte: as a parser gives out what it has held back
      const body = (async function* () { for (const chunk of memory) yield* [chunk.subarray(0, -1), chunk.subarray(-1)] })()
      await putUnknownLength(store, notedIntents(), 'k', body, { maxBytes: 100_000, partBytes: 1000 })
      t.equal(createHash('sha256').update(await collect((await store.open('k')).body)).digest('hex'), wanted, `${store.name}: the bytes`)
      t.equal(memory.filter(({ length }) => length === 0).length, claimed ? 24 : 0, `${store.name}: all but the last, which may hold what comes behind the body`)
      await store.delete('k')
    }
  }
})

t.test('of a chunk that has its memory in common with others, none is claimed', t => {
  const memory = Buffer.allocUnsafeSlow(100)
  claimMemory(memory.subarray(1))
  giveBackClaimed(memory.buffer)
  t.equal(memory.length, 100)
  claimMemory(memory)
  giveBackClaimed(memory.buffer)
  giveBackClaimed(memory.buffer)
  giveBackClaimed(undefined)
  t.equal(memory.length, 0)
  t.end()
})

t.test('chunks of an S3 answer stay what they are while more arrive', async t => {
  const { store } = await openStub(t)
  const bytes = randomBytes(3_000_000)
  await store.put('k', bytes, { size: bytes.length })
  for (let turn = 0; turn < 3; turn += 1) {
    const kept: Buffer[] = []
    const { body } = await store.open('k')
    body.on('data', (chunk: Buffer) => kept.push(chunk))
    await once(body, 'end')
    t.ok(Buffer.concat(kept).equals(bytes), 'on a connection that is used again')
  }
})

t.test('a reader that waits in between misses nothing of an S3 answer', async t => {
  const { store } = await openStub(t)
  const bytes = randomBytes(3_000_000)
  await store.put('k', bytes, { size: bytes.length })
  const { body } = await store.open('k')
  const kept: Buffer[] = []
  body.on('data', (chunk: Buffer) => {
    kept.push(chunk)
    body.pause()
    setImmediate(() => body.resume())
  })
  await once(body, 'end')
  t.ok(Buffer.concat(kept).equals(bytes))
})

/** One result of a job over a store whose bodies are chunks that a test can look at. */
async function overChunks(t: Parameters<typeof startJobs>[0], disposable: boolean | undefined) {
  const chunks = Array.from({ length: 10 }, () => Buffer.allocUnsafeSlow(30_000).fill('x'))
  const bytes = Buffer.concat(chunks)
  const over = (store: ObjectStore): ObjectStore => ({
    ...store,
    async open(key, options) {
      const { disposable: _disposable, ...object } = await store.open(key, options)
      object.body.destroy()
      return { ...object, body: Readable.from(chunks, { objectMode: false }), ...(disposable !== undefined && { disposable }) }
    }
  })
  const edge = await startJobs(t, { over })
  const job = completedRow()
  edge.jobs.jobs.set(job.id, job)
  edge.jobs.files.set('image.png', await edge.file(bytes))
  return { chunks, bytes, read: async () => await buffer((await fetch(`${edge.url}/api/v1/jobs/${job.id}/results/image.png`)).body!) }
}

t.test('an answer gives back what the socket has taken, where the store says that it may', async t => {
  const { chunks, bytes, read } = await overChunks(t, true)
  t.ok((await read()).equals(bytes))
  await eventually(() => { if (chunks.some(({ length }) => length > 0)) throw new Error('a chunk is still there') })
})

t.test('and nothing of a store whose chunks are its own', async t => {
  const { chunks, bytes, read } = await overChunks(t, undefined)
  t.ok((await read()).equals(bytes))
  t.ok((await read()).equals(bytes), 'again')
  t.same(chunks.map(({ length }) => length), chunks.map(() => 30_000))
  const memory = await openMemory()
  await memory.put('k', bytes, { size: bytes.length })
  t.notOk((await memory.open('k')).disposable)
})

t.test('a body in memory is sent to S3 without being hashed for its signature', async t => {
  const { stub, store } = await openStub(t)
  await store.put('k', Buffer.from('bytes'), { size: 5 })
  await putUnknownLength(store, notedIntents(), 'l', Readable.from([Buffer.alloc(1500)]), { maxBytes: 10_000, partBytes: 1000 })
  const sent = stub.requests.filter(({ operation }) => operation === 'PutObject' || operation === 'UploadPart')
  t.same(sent.map(({ headers }) => headers['x-amz-content-sha256']), ['UNSIGNED-PAYLOAD', 'UNSIGNED-PAYLOAD', 'UNSIGNED-PAYLOAD'])
})
