import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstat, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { fsObjectStore } from '../../src/objects/fs.ts'
import { BucketNotFound, MultipartNotFound, ObjectKeyInvalid, ObjectNotFound, ObjectStoreFailed, sweepsTemporaries } from '../../src/objects/port.ts'
import { collect, keysOf, objectStoreContract, text } from '../contract/object-store.ts'
import { eventually } from '../support/raw-client.ts'

async function folder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'penstock-fs-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

async function unfinished(root: string): Promise<string[]> {
  const lists = await Promise.all(['.tmp', '.multipart'].map(name => readdir(join(root, name)).catch(() => [])))
  return lists.flat()
}

objectStoreContract(t, 'fs', async () => {
  const root = await folder(t)
  const store = fsObjectStore({ root })
  await store.createBucket()
  return { store, atomicCopy: true, partMinBytes: 1000, leftovers: () => unfinished(root) }
})

async function open(t: Test): Promise<{ root: string, store: ReturnType<typeof fsObjectStore> }> {
  const root = await folder(t)
  return { root, store: fsObjectStore({ root }) }
}

const x = { bytes: Buffer.from('x'), options: { size: 1 } }

t.test('a root that is not there is a bucket that is not there, until it is made', async t => {
  const root = join(await folder(t), 'deep', 'down')
  const store = fsObjectStore({ root })
  await t.rejects(store.check(), BucketNotFound)
  await t.rejects(store.put('k', x.bytes, x.options), BucketNotFound)
  await store.createBucket()
  await store.check()
  await store.put('k', x.bytes, x.options)
  await rm(root, { recursive: true })
  await t.rejects(store.check(), BucketNotFound)
})

t.test('the root may itself be reached through a link', async t => {
  const real = await folder(t)
  const link = join(await folder(t), 'link')
  await symlink(real, link)
  const store = fsObjectStore({ root: link })
  await store.put('a/b', x.bytes, x.options)
  t.equal(await readFile(join(real, 'a/b'), 'utf8'), 'x')
  t.same(await keysOf(store), ['a/b'])
})

t.test('keys do not lead out of the root through folders that are links', async t => {
  const { root, store } = await open(t)
  const outside = await folder(t)
  await writeFile(join(outside, 'secret'), 'secret')
  await symlink(outside, join(root, 'out'))
  for (const key of ['out/secret', 'out/new', 'out/deep/new']) {
    await t.rejects(store.put(key, x.bytes, x.options), ObjectKeyInvalid)
    await t.rejects(store.put(key, x.bytes, { ...x.options, createOnly: true }), ObjectKeyInvalid)
  }
  await t.rejects(store.open('out/secret'), ObjectKeyInvalid)
  await t.rejects(store.head('out/secret'), ObjectKeyInvalid)
  await t.rejects(store.delete('out/secret'), ObjectKeyInvalid)
  await t.rejects(store.copy('out/secret', 'in'), ObjectKeyInvalid)
  await t.rejects(keysOf(store, 'out/'), ObjectKeyInvalid)
  t.same(await keysOf(store), [])
  t.same(await readdir(outside), ['secret'])
})

t.test('an object that is a link is no object', async t => {
  const { root, store } = await open(t)
  const outside = await folder(t)
  await writeFile(join(outside, 'secret'), 'secret')
  await symlink(join(outside, 'secret'), join(root, 'link'))
  await t.rejects(store.open('link'), ObjectNotFound)
  t.equal(await store.head('link'), undefined)
  await t.rejects(store.copy('link', 'copy'), ObjectNotFound)
  t.same(await keysOf(store), [])
  await store.put('link', x.bytes, x.options)
  t.equal(await readFile(join(outside, 'secret'), 'utf8'), 'secret', 'a put replaces the link, not what it points at')
})

t.test('a key below an object, and an object in place of a folder, are refused', async t => {
  const { root, store } = await open(t)
  await store.put('a/b', x.bytes, x.options)
  await t.rejects(store.put('a/b/c', x.bytes, x.options), ObjectKeyInvalid)
  await t.rejects(store.put('a', x.bytes, x.options), ObjectKeyInvalid)
  t.same(await keysOf(store), ['a/b'])
  t.same(await unfinished(root), [])
})

t.test('folders that became empty are removed, the root is not', async t => {
  const { root, store } = await open(t)
  await store.put('a/b/c', x.bytes, x.options)
  await store.put('a/d', x.bytes, x.options)
  await store.delete('a/b/c')
  t.same(await readdir(join(root, 'a')), ['d'])
  await store.delete('a/d')
  t.same(await readdir(root), ['.tmp'])
})

t.test('writers and deleters of one folder do not lose an object that was acknowledged', async t => {
  const { store } = await open(t)
  await Promise.all(Array.from({ length: 8 }, async (_, writer) => {
    for (let round = 0; round < 60; round++) {
      const key = `race/deep-${writer % 4}/${writer}` // two to a folder: it is empty most of the time
      await store.put(key, x.bytes, { ...x.options, createOnly: true })
      if (await store.head(key) === undefined) t.fail('an acknowledged object is gone')
      await store.delete(key)
    }
  }))
  t.same(await keysOf(store), [])
})

t.test('an open object is read to its end while it is replaced and deleted', async t => {
  const { store } = await open(t)
  const bytes = Buffer.alloc(2_000_000, 'a')
  await store.put('k', bytes, { size: bytes.length })
  const { body } = await store.open('k')
  await store.put('k', Buffer.alloc(2_000_000, 'b'), { size: bytes.length })
  await store.delete('k')
  t.ok(bytes.equals(await collect(body)))
})

t.test('an upload id does not lead out of the root', async t => {
  const { root, store } = await open(t)
  await store.put('there/key', Buffer.from('k'), x.options)
  for (const uploadId of ['../there', '..', '.', '', '/', `${root}/there`]) {
    const upload = { key: 'k', uploadId }
    await t.rejects(store.putPart(upload, 1, x.bytes, x.options), MultipartNotFound)
    await store.abortMultipart(upload)
  }
  t.same(await keysOf(store), ['there/key'])
})

t.test('a copy is a hard link: no bytes are written again', async t => {
  const { root, store } = await open(t)
  await store.put('from', x.bytes, x.options)
  await store.copy('from', 'to/x', { createOnly: true })
  t.equal((await lstat(join(root, 'from'))).ino, (await lstat(join(root, 'to/x'))).ino)
  const upload = { key: 'parts', ...await store.createMultipart('parts') }
  await store.completeMultipart(upload, [await store.copyPart(upload, 1, 'from')])
  t.equal((await lstat(join(root, 'from'))).ino, (await lstat(join(root, 'parts'))).ino)
})

t.test('an object is as new as its key, also where its bytes are old', async t => {
  const { root, store } = await open(t)
  await store.put('from', x.bytes, x.options)
  await utimes(join(root, 'from'), new Date('2001-01-01'), new Date('2001-01-01'))
  await store.copy('from', 'to')
  t.ok(Date.now() - (await store.head('to'))!.lastModified.getTime() < 60_000)
})

t.test('the sweeper takes unfinished writes that are old, and only those', async t => {
  const { root, store } = await open(t)
  t.ok(sweepsTemporaries(store))
  await store.put('kept', x.bytes, x.options)
  await writeFile(join(root, '.tmp', 'left-over'), 'half')
  const upload = { key: 'up', ...await store.createMultipart('up') }
  await store.putPart(upload, 1, x.bytes, x.options)
  t.equal(await store.sweepTemporaries(new Date(Date.now() - 60_000)), 0)
  t.equal((await unfinished(root)).length, 2)
  await delay(20)
  t.equal(await store.sweepTemporaries(new Date()), 2)
  t.same(await unfinished(root), [])
  t.same(await store.listMultiparts('up'), [])
  t.same(await keysOf(store), ['kept'])
  t.equal(await fsObjectStore({ root }).sweepTemporaries(new Date()), 0)
})

t.test('a write that takes longer than the sweeper waits is left alone, as put and as part', async t => {
  const { root, store } = await open(t)
  const upload = { key: 'up', ...await store.createMultipart('up') }
  const bodies = [new PassThrough(), new PassThrough()] as const
  const writes = [store.put('slow', bodies[0], { size: 2 }), store.putPart(upload, 1, bodies[1], { size: 2 })] as const
  await writeAndSee(root, bodies, 'a', 1)
  await delay(100)
  const before = new Date(Date.now() - 20)
  await writeAndSee(root, bodies, 'b', 2)
  t.equal(await store.sweepTemporaries(before), 0)
  for (const body of bodies) body.end()
  const [, part] = await Promise.all(writes)
  await store.completeMultipart(upload, [part])
  t.same([await text(store, 'slow'), await text(store, 'up')], ['ab', 'ab'])
  t.same(await unfinished(root), [])
})

/** Gives both bodies some text, and waits until it is in the files being written. */
async function writeAndSee(root: string, bodies: readonly PassThrough[], chunk: string, size: number): Promise<void> {
  for (const body of bodies) body.write(chunk)
  await eventually(async () => {
    const paths = await readdir(root, { recursive: true, withFileTypes: true })
    const files = await Promise.all(paths.filter(path => path.isFile() && path.name !== 'key').map(path => lstat(join(path.parentPath, path.name))))
    assert.deepEqual(files.map(file => file.size), [size, size])
  })
}

t.test('sweeping a root in which nothing was written finds nothing', async t => {
  const { store } = await open(t)
  t.equal(await store.sweepTemporaries(new Date()), 0)
  t.same(await store.listMultiparts('k'), [])
})

t.test('a full disk is an error with its cause, and leaves nothing', async t => {
  const { root, store } = await open(t)
  await store.put('kept', x.bytes, x.options)
  // a limit on the size of files makes writes fail half-way, as a full disk does, in a process of its own
  const script = `
    import { PassThrough, Readable } from 'node:stream'
    import { fsObjectStore } from ${JSON.stringify(import.meta.resolve('../../src/objects/fs.ts'))}
    process.on('SIGXFSZ', () => {})
    const body = Readable.from(Array.from({ length: 40 }, () => Buffer.alloc(100_000)), { objectMode: false })
    await fsObjectStore({ root: process.argv[1] }).put('big', body, { size: 4_000_000 }).then(() => console.log('stored'), error => console.log(error.code, error.cause?.code))`
  const child = spawn('sh', ['-c', 'ulimit -f 1000; exec "$@"', 'sh', process.execPath, '--input-type=module-typescript', '-e', script, root], { stdio: ['ignore', 'pipe', 'inherit'] })
  const output = (await child.stdout.toArray()).join('').trim()
  t.equal(output, 'OBJECT_STORE_FAILED EFBIG')
  t.same(await unfinished(root), [])
  t.same(await keysOf(store), ['kept'])
})

t.test('a writer that is killed leaves only whole objects, and what it left unfinished is swept', async t => {
  const { root, store } = await open(t)
  // each object says in its key what its bytes are; every acknowledged one is printed after it was acknowledged
  const script = `
    import { fsObjectStore } from ${JSON.stringify(import.meta.resolve('../../src/objects/fs.ts'))}
    import { PassThrough, Readable } from 'node:stream'
    const store = fsObjectStore({ root: process.argv[1] })
    const run = process.argv[2]
    await Promise.all([0, 1, 2, 3].map(async writer => {
      for (let n = 0; ; n++) {
        const size = 50_000 + (n % 7) * 100_000
        const fill = String.fromCharCode(97 + n % 26)
        const key = 'w/' + run + '-' + writer + '-' + n + '/' + fill + '-' + size
        const body = Readable.from((function* () { for (let at = 0; at < size; at += 10_000) yield Buffer.alloc(10_000, fill) })(), { objectMode: false })
        await store.put(key, body, { size, createOnly: true })
        await store.copy(key, 'copy-' + key, { createOnly: true })
        process.stdout.write(key + '\\n')
      }
    }))`
  const acknowledged: string[] = []
  for (let round = 0; round < 4; round++) {
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script, root, String(round)], { stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = child.stdout.toArray()
    await once(child.stdout, 'readable')
    await delay(30 + Math.random() * 120)
    child.kill('SIGKILL')
    acknowledged.push(...(await lines).join('').split('\n').slice(0, -1))
  }
  t.ok(acknowledged.length > 0)
  const keys = await keysOf(store)
  for (const key of acknowledged) if (!keys.includes(key) || !keys.includes(`copy-${key}`)) t.fail(`${key} was acknowledged and is gone`)
  for (const key of keys) {
    const [, fill, size] = /([a-z])-(\d+)$/.exec(key)!
    if (await text(store, key) !== fill!.repeat(Number(size))) t.fail(`${key} is not whole`)
  }
  await delay(20)
  await store.sweepTemporaries(new Date())
  t.same(await unfinished(root), [])
  t.same(await keysOf(store), keys)
})

t.test('a body that stalls does not hold up others', async t => {
  const { store } = await open(t)
  const stalled = new Readable({ read() {} })
  const controller = new AbortController()
  const waiting = store.put('stalled', stalled, { size: 10, signal: controller.signal })
  await store.put('other', x.bytes, x.options)
  t.equal(await text(store, 'other'), 'x')
  controller.abort()
  await t.rejects(waiting, ObjectStoreFailed)
})
