import t from 'tap'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeModels, MODELS } from '../../scripts/make-models.ts'
import { checkManifest } from '../../src/inference/manifest.ts'

const filesBelow = async (folder: string): Promise<string[]> =>
  (await readdir(folder, { recursive: true, withFileTypes: true })).filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name).slice(folder.length)).toSorted()

t.test('the built-in models in the repository are what the script writes, byte for byte', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-models-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  makeModels(folder)
  const files = await filesBelow(folder)
  t.same(await filesBelow(MODELS), files)
  for (const file of files) t.ok((await readFile(join(folder, file))).equals(await readFile(join(MODELS, file))), file)
})

t.test('their manifests are valid, and lie where they say', async t => {
  const manifests = (await filesBelow(MODELS)).filter(file => file.endsWith('model.json'))
  t.same(manifests.map(file => file.split('/')[1]).toSorted(), ['color-classes', 'edges', 'identity', 'identity-image', 'thumbprint', 'upscale-2x'])
  for (const file of manifests) {
    const manifest = JSON.parse(await readFile(join(MODELS, file), 'utf8')) as { name: string, version: number }
    t.same(checkManifest(manifest), { manifest })
    t.equal(file, `/${manifest.name}/${manifest.version}/model.json`)
  }
})
