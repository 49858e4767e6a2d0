import t from 'tap'
import type { Test } from 'tap'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { InferenceFailed } from '../../src/inference/port.ts'
import { canonicalKey, manifestKey } from '../../src/objects/keys.ts'
import { loadModels } from '../../src/models/load-directory.ts'
import { digest, modelStores, scriptedImport } from '../support/model-stores.ts'
import { SIGNATURE } from '../support/model-rows.ts'

type Files = Record<string, string>

async function folderOf(t: Test, files: Files): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-models-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await writeAll(folder, files)
  return folder
}

async function writeAll(folder: string, files: Files): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(folder, path, '..'), { recursive: true })
    await writeFile(join(folder, path), text)
  }
}

/** The two files of a model. */
function model(name: string, version: number | string, bytes = `${name} ${version}`, manifest: object = {}): Files {
  return { [`${name}/${version}/model.onnx`]: bytes, [`${name}/${version}/model.json`]: JSON.stringify({ name, version, task: 'tensor', ...manifest }) }
}

t.test('models of a folder are objects with manifests and rows; loading them again changes nothing', async t => {
  const stores = await modelStores(t)
  const { pool, staged } = scriptedImport(stores)
  const folder = await folderOf(t, { ...model('identity', 1), ...model('identity', '1.10.0'), ...model('edges', 2), 'README.md': 'not a folder', '.git/1/x': 'hidden' })
  t.same(await loadModels({ ...stores, pool }, folder), { added: 3, present: 0, refused: 0 })
  t.match(await stores.records.models.find('edges'), {
    name: 'edges', version: '2', task: 'tensor', sha256: digest('edges 2'), key: canonicalKey(digest('edges 2'), 'model.onnx'), size: 7,
    manifest: { name: 'edges', version: 2, task: 'tensor' }, signature: SIGNATURE, loaded: true
  })
  t.equal((await stores.records.models.find('identity'))?.version, '1.10.0', 'the highest')
  const keys = ['edges 2', 'identity 1', 'identity 1.10.0'].flatMap(bytes => [canonicalKey(digest(bytes), 'model.onnx'), manifestKey(digest(bytes))]).toSorted()
  t.same(await stores.keys(), keys, 'and nothing is left in staging')
  t.same(await stores.json(manifestKey(digest('edges 2'))), { name: 'edges', version: 2, task: 'tensor' })
  t.match(stores.logged('models.load.added').map(line => [line.model, line.version]), [['edges', '2'], ['identity', '1'], ['identity', '1.10.0']])

  t.equal(staged.length, 3)
  t.same(await loadModels({ ...stores, pool }, folder), { added: 0, present: 3, refused: 0 })
  t.equal(staged.length, 3, 'not staged again')
  t.equal(stores.logged('models.load.present').length, 3)
  t.same(await stores.keys(), keys)
})

t.test('folders that are no models are named, and do not keep the others out', async t => {
  const stores = await modelStores(t)
  const { pool } = scriptedImport(stores)
  const folder = await folderOf(t, {
    ...model('good', 1), ...model('broken', 1, 'bad bytes'), 'empty/1/model.onnx': 'x', 'no-onnx/1/model.json': '{"name":"no-onnx","version":1,"task":"tensor"}',
    'other/1/model.onnx': 'x', 'other/1/model.json': '{"name":"another","version":1,"task":"tensor"}', 'no-json/1/model.onnx': 'x', 'no-json/1/model.json': '{',
    ...model('keys', 1, 'x', { colour: 'red' }), 'large/1/model.json': ' '.repeat(2_000_000)
  })
  t.same(await loadModels({ ...stores, pool }, folder), { added: 1, present: 0, refused: 7 })
  const refused = Object.fromEntries(stores.logged('models.load.refused').map(line => [line.model, line]))
  t.match(refused, {
    broken: { message: 'protobuf parsing failed', folder: join(folder, 'broken', '1') }, empty: { message: /ENOENT/ }, 'no-onnx': { message: /ENOENT/ },
    other: { message: 'model.json says another/1: the folders must be called so' }, 'no-json': { issues: [{ message: /must be JSON/ }] },
    keys: { issues: [{ path: 'colour', message: 'is no key of a manifest' }] }, large: { message: 'model.json has more than 1048576 bytes' }
  })
  t.same((await stores.records.models.list()).map(({ name }) => name), ['good'])
  t.equal((await stores.keys()).length, 2)
})

t.test('a version that is known keeps its bytes and its manifest', async t => {
  const stores = await modelStores(t)
  const { pool } = scriptedImport(stores)
  const folder = await folderOf(t, model('identity', 1, 'first'))
  await loadModels({ ...stores, pool }, folder)
  const before = await stores.keys()
  await writeAll(folder, model('identity', 1, 'second'))
  t.same(await loadModels({ ...stores, pool }, folder), { added: 0, present: 0, refused: 1 })
  t.match(stores.logged('models.load.refused'), [{ message: 'this version is known with other bytes: a changed model needs another version' }])
  await writeAll(folder, model('identity', 1, 'first', { description: 'changed' }))
  t.same(await loadModels({ ...stores, pool }, folder), { added: 0, present: 1, refused: 0 })
  t.equal(stores.logged('models.load.manifest_kept').length, 1)
  t.match((await stores.records.models.find('identity')), { sha256: digest('first'), manifest: { description: undefined } })
  t.same(await stores.keys(), before)
})

t.test('an object that the bucket has lost is put back', async t => {
  const stores = await modelStores(t)
  const { pool } = scriptedImport(stores)
  const folder = await folderOf(t, model('identity', 1, 'bytes'))
  await loadModels({ ...stores, pool }, folder)
  const key = canonicalKey(digest('bytes'), 'model.onnx')
  await stores.store.delete(key)
  t.same(await loadModels({ ...stores, pool }, folder), { added: 0, present: 1, refused: 0 })
  t.ok(await stores.store.head(key))
})

t.test('the same bytes under two names are one object', async t => {
  const stores = await modelStores(t)
  const { pool } = scriptedImport(stores)
  await loadModels({ ...stores, pool }, await folderOf(t, { ...model('a', 1, 'same'), ...model('b', 1, 'same') }))
  t.equal((await stores.records.models.list()).length, 2)
  t.same(await stores.keys(), [canonicalKey(digest('same'), 'model.onnx'), manifestKey(digest('same'))].toSorted())
  t.match(await stores.json(manifestKey(digest('same'))), { name: 'a' }, 'the manifest object is of the first')
})

t.test('several nodes at once write each model once', async t => {
  const stores = await modelStores(t)
  const { pool } = scriptedImport(stores)
  const folder = await folderOf(t, { ...model('a', 1), ...model('b', 1), ...model('c', 1) })
  const outcomes = await Promise.all([1, 2, 3, 4].map(() => loadModels({ ...stores, pool }, folder)))
  t.equal(outcomes.reduce((sum, { added }) => sum + added, 0), 3)
  t.equal(outcomes.reduce((sum, { refused }) => sum + refused, 0), 0)
  t.equal((await stores.records.models.list()).length, 3)
  t.equal((await stores.keys()).length, 6)
})

t.test('a model that was unloaded stays so over a start', async t => {
  const stores = await modelStores(t)
  const { pool } = scriptedImport(stores)
  const folder = await folderOf(t, model('a', 1))
  await loadModels({ ...stores, pool }, folder)
  await stores.records.models.setLoaded('a', undefined, false)
  await loadModels({ ...stores, pool }, folder)
  t.equal((await stores.records.models.find('a', '1'))?.loaded, false)
})

t.test('a worker that is lost over a model does not keep the others out', async t => {
  const stores = await modelStores(t)
  const { pool } = scriptedImport(stores)
  const folder = await folderOf(t, { ...model('a', 1), ...model('b', 1) })
  const lossy = { importModel: async (file: string, known: readonly string[]) => {
    if (file.includes('/a/')) throw new InferenceFailed('worker_lost', 'SIGSEGV')
    return await pool.importModel(file, known)
  } }
  t.same(await loadModels({ ...stores, pool: lossy }, folder), { added: 1, present: 0, refused: 1 })
})

t.test('a folder that is not there is a fault of the configuration', async t => {
  const stores = await modelStores(t)
  const { pool } = scriptedImport(stores)
  await t.rejects(loadModels({ ...stores, pool }, '/nowhere/models'), { code: 'ENOENT' })
})
