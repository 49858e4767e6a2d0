/** What `inputPath` and `outputPath` can name, and what they cannot, however it is written. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { assertDeliverable, deliver, openInput, placeOf } from '../../src/gpu-node/paths.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'

const { signal } = new AbortController()

async function world(t: Test) {
  const folder = t.testdir({ root: { 'in.mp4': 'inside', below: { 'deep.mp4': 'deeper' } }, outside: { 'secret.mp4': 'secret' }, 'root-next': { x: 'next' } })
  const root = join(folder, 'root')
  symlinkSync(join(folder, 'outside'), join(root, 'link'))
  symlinkSync(join(folder, 'outside/secret.mp4'), join(root, 'secret.mp4'))
  symlinkSync('in.mp4', join(root, 'alias.mp4'))
  const store = memoryObjectStore()
  await store.createBucket()
  await store.put('media/a.mp4', Buffer.from('an object'), { size: 9 })
  await store.put('sha256/x/object', Buffer.from('private'), { size: 7 })
  const place = (given: string) => placeOf('inputPath', given, { prefixes: ['media/', 'work/'], root })
  return { folder, root, store, place, read: async (given: string) => (await buffer((await openInput(place(given), store, signal)).body)).toString() }
}

t.test('objects under the prefixes, and files below the folder', async t => {
  const { root, read } = await world(t)
  t.equal(await read('media/a.mp4'), 'an object')
  t.equal(await read('in.mp4'), 'inside')
  t.equal(await read('./below/deep.mp4'), 'deeper')
  t.equal(await read(join(root, 'below/deep.mp4')), 'deeper')
})

t.test('what would lead elsewhere is refused before anything is looked up', async t => {
  const { folder, root, place } = await world(t)
  for (const given of [
    '', '/', '/etc/passwd', '..', '../outside/secret.mp4', 'below/../../outside/secret.mp4', `${root}/../outside/secret.mp4`, root, `${root}/`, join(folder, 'root-next/x'), join(folder, 'outside/secret.mp4'),
    'media/../secret', 'media/./a.mp4', 'media//a.mp4', 'media/', 'media/.hidden', 'work/..', 'sha256/x/object/../../media',
    '%2e%2e/outside/secret.mp4', '..%2foutside', 'media/%2e%2e/x', 'in.mp4%00', 'below%5c..', '%252e%252e/x',
    'in.mp4\0', 'media/a\0.mp4', 'in\n.mp4', '..\\outside', 'media\\a.mp4', 'C:\\x', '\ud800', 'x'.repeat(5000), `media/${'x'.repeat(300)}`
  ]) t.throws(() => place(given), { code: 'BAD_REQUEST', details: { fields: [{ field: 'inputPath' }] } }, JSON.stringify(given.slice(0, 60)))
})

t.test('an object key outside of the prefixes is a file that is not there', async t => {
  const { read } = await world(t)
  for (const given of ['sha256/x/object', 'Media/a.mp4', 'media', '_probe/x', 'media/missing.mp4', 'missing.mp4', 'nowhere/x.mp4', 'in.mp4/x', `${'y'.repeat(300)}.mp4`]) await t.rejects(read(given), { code: 'FILE_NOT_FOUND' }, given)
})

t.test('no link is followed, wherever it leads, and only a file is a file', async t => {
  const { root, read, place } = await world(t)
  for (const given of ['link/secret.mp4', 'secret.mp4', 'alias.mp4', 'below']) await t.rejects(read(given), { code: 'BAD_REQUEST' }, given)
  execFileSync('mkfifo', [join(root, 'pipe')])
  await t.rejects(read('pipe'), { code: 'BAD_REQUEST' })
  for (const given of ['link/out.mp4', 'secret.mp4', 'below', 'pipe', 'nowhere/out.mp4']) await t.rejects(assertDeliverable(place(given)), { code: 'BAD_REQUEST' }, given)
  await assertDeliverable(place('out.mp4'))
  await assertDeliverable(place('in.mp4'))
  await assertDeliverable(place('media/out.mp4'))
})

t.test('a root that is itself reached over a link is the root', async t => {
  const { folder, store } = await world(t)
  symlinkSync(join(folder, 'root'), join(folder, 'alias'))
  const place = placeOf('inputPath', join(folder, 'alias/in.mp4'), { prefixes: ['media/'], root: join(folder, 'alias') })
  t.equal((await buffer((await openInput(place, store, signal)).body)).toString(), 'inside')
})

t.test('a result is delivered whole, over what was there', async t => {
  const { folder, root, store, place } = await world(t)
  const file = join(folder, 'result')
  writeFileSync(file, 'the result')
  const { etag } = await store.put('sha256/_staging/x', Buffer.from('the result'), { size: 10 })
  const delivery = { staged: { key: 'sha256/_staging/x', etag, contentType: 'video/mp4' }, file }
  await deliver(place('in.mp4'), delivery, store, signal)
  t.equal(readFileSync(join(root, 'in.mp4'), 'utf8'), 'the result')
  await deliver(place('media/a.mp4'), delivery, store, signal)
  t.equal((await buffer((await store.open('media/a.mp4')).body)).toString(), 'the result')
  // a folder that became a link since the job began
  mkdirSync(join(root, 'later'))
  const later = place('below/out.mp4')
  await t.rejects(deliver({ ...later, file: join(root, 'link/out.mp4') } as typeof later, delivery, store, signal), { code: 'BAD_REQUEST' })
  await t.rejects(deliver(place('below/out.mp4'), delivery, store, AbortSignal.abort(new Error('stop'))), { message: 'stop' })
  t.same(readdirSync(join(folder, 'outside')), ['secret.mp4'])
  t.same(readdirSync(join(root, 'below')), ['deep.mp4'], 'nothing is left of what was given up')
})
