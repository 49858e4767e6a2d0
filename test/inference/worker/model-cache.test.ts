import t from 'tap'
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { Test } from 'tap'
import { modelCache } from '../../../src/inference/worker/model-cache.ts'
import { fsObjectStore } from '../../../src/objects/fs.ts'
import { canonicalKey } from '../../../src/objects/keys.ts'
import { sha256Of } from '../../support/worker.ts'

async function start(t: Test, maxBytes?: number) {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-cache-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const store = fsObjectStore({ root: join(folder, 'objects') })
  await store.createBucket()
  const opened: string[] = []
  const counting = { open: (key: string, options?: object) => (opened.push(key), store.open(key, options)) }
  const dir = join(folder, 'cache')
  return {
    folder, dir, store, opened,
    cache: () => modelCache({ dir, store: counting, ...(maxBytes !== undefined && { maxBytes }) }),
    async put(text: string) {
      const bytes = Buffer.from(text)
      const sha256 = sha256Of(bytes)
      const key = canonicalKey(sha256, 'model.onnx')
      await store.put(key, bytes, { size: bytes.length })
      return { key, sha256, size: bytes.length }
    }
  }
}

t.test('a model is fetched once, by whichever worker, and verified by each', async t => {
  const { cache, put, opened, dir } = await start(t)
  const model = await put('weights')
  const [first, second] = [cache(), cache()]
  const path = await first.fetch(model)
  t.equal(path, join(dir, `${model.sha256}.onnx`))
  t.equal(await readFile(path, 'utf8'), 'weights')
  for (const each of [first, second, first]) t.equal(await each.fetch(model), path)
  t.equal(opened.length, 1)
})

t.test('a file that was changed is fetched again, whether it is seen at the start or later', async t => {
  const { cache, put, opened } = await start(t)
  const model = await put('weights')
  const path = await cache().fetch(model)
  for (const [round, damage] of ['WEIGHTS', 'weight', ''].entries()) {
    await writeFile(path, damage)
    t.equal(await readFile(await cache().fetch(model), 'utf8'), 'weights')
    t.equal(opened.length, round + 2)
  }
  const running = cache()
  await running.fetch(model)
  await writeFile(path, 'WEIGHTS')
  t.equal(await readFile(await running.fetch(model), 'utf8'), 'weights')
  await rm(path)
  t.equal(await readFile(await running.fetch(model), 'utf8'), 'weights')
})

t.test('bytes that are not those of the digest are never kept', async t => {
  const { cache, put, store, dir } = await start(t)
  const model = await put('weights')
  for (const wrong of ['WEIGHTS', 'weight', 'weights and more']) {
    await store.put(model.key, Buffer.from(wrong), { size: wrong.length })
    await t.rejects(cache().fetch(model), { code: 'storage_failed', retryable: false })
    t.same(await readdir(dir), [])
  }
  await store.delete(model.key)
  await t.rejects(cache().fetch(model), { code: 'OBJECT_NOT_FOUND' })
})

t.test('a download that breaks off, or is cancelled, leaves nothing', async t => {
  const { folder, dir, put } = await start(t)
  const model = await put('weights')
  const breaking = { open: async () => ({ key: '', size: 7, etag: '', lastModified: new Date(), body: Readable.from((async function* () { yield Buffer.from('wei'); throw new Error('gone') })()) }) }
  await t.rejects(modelCache({ dir, store: breaking }).fetch(model), { message: 'gone' })
  const stop = new AbortController()
  const endless = { open: async () => ({ key: '', size: 7, etag: '', lastModified: new Date(), body: new Readable({ read() {} }) }) }
  const fetching = modelCache({ dir: join(folder, 'cache'), store: endless }).fetch(model, stop.signal)
  setTimeout(() => stop.abort(), 20)
  await t.rejects(fetching, { name: 'AbortError' })
  t.same(await readdir(dir), [])
})

t.test('several workers that want it at once each get a whole one', async t => {
  const { cache, put, dir } = await start(t)
  const model = await put('weights'.repeat(50_000))
  const paths = await Promise.all(Array.from({ length: 8 }, () => cache().fetch(model)))
  t.equal(new Set(paths).size, 1)
  t.equal(sha256Of(await readFile(paths[0]!)), model.sha256)
  t.same(await readdir(dir), [`${model.sha256}.onnx`])
})

t.test('the least recently used goes when there are too many', async t => {
  const { cache, put, dir } = await start(t, 25)
  const models = await Promise.all(['a'.repeat(10), 'b'.repeat(10), 'c'.repeat(10)].map(put))
  const worker = cache()
  const old = async (index: number, age: number) => utimes(join(dir, `${models[index]!.sha256}.onnx`), Date.now() / 1000 - age, Math.floor(Date.now() / 1000) - age)
  await worker.fetch(models[0]!)
  await worker.fetch(models[1]!)
  await old(0, 1000)
  await old(1, 500)
  await worker.fetch(models[0]!)
  await worker.fetch(models[2]!)
  t.same((await readdir(dir)).toSorted(), [`${models[0]!.sha256}.onnx`, `${models[2]!.sha256}.onnx`].toSorted())
  await worker.fetch({ ...await put('d'.repeat(40)) })
  t.equal((await readdir(dir)).length, 1, 'one that is larger than all together is kept while it is used')
})

t.test('using one changes only when it was used, and what downloads left behind goes', async t => {
  const { cache, put, dir } = await start(t)
  const worker = cache()
  const model = await put('weights')
  const path = await worker.fetch(model)
  await utimes(path, 1000, (await stat(path)).mtime)
  const { mtimeMs } = await stat(path)
  await worker.fetch(model)
  const after = await stat(path)
  t.equal(after.mtimeMs, mtimeMs)
  t.ok(after.atimeMs > 1_000_000)
  const [stale, fresh] = ['.x.1.part', '.x.2.part'].map(name => join(dir, name))
  await Promise.all([stale, fresh].map(each => writeFile(each!, '')))
  await utimes(stale!, 0, 0)
  await worker.fetch(await put('other'))
  t.notOk((await readdir(dir)).includes('.x.1.part'))
  t.ok((await readdir(dir)).includes('.x.2.part'))
})
