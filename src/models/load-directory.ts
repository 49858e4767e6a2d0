/**
 * Models from a folder of this machine, at start: `<name>/<version>/model.onnx` and `model.json` beside it.
 *
 *   for each: manifest checked → a worker hashes the file, loads it, and stages it where its object is not there yet
 *             → claim the hash → create-only copy → manifest object → row → delete staging
 *
 * Every step can be repeated, and several nodes may do it at once: the object is create-only, and of equal rows one is
 * written. A folder that is no model, does not load, or says it is a version that is known with other bytes, is named in a
 * warning, and the others go on.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { isPenstockError } from '../errors.ts'
import type { ModelManifest } from '../inference/manifest.ts'
import type { InferencePool, StagedResult } from '../inference/port.ts'
import { stagingKeys } from '../inference/staging-keys.ts'
import { storeManifest } from '../ingest/bundle/manifest-object.ts'
import type { Log } from '../ingest/context.ts'
import { newModel, parseModelManifest, type CheckedModel } from '../ingest/model/check.ts'
import { publishStaged } from '../ingest/publish.ts'
import { MANIFEST_MAX_BYTES, MODEL_FOLDERS_MAX, RECLAIM_ATTEMPTS_MAX, RECLAIM_PAUSE_MS } from '../limits.ts'
import type { ObjectStore } from '../objects/port.ts'
import type { StoreReadiness } from '../objects/readiness.ts'
import type { ModelRecord } from '../records/jobs-port.ts'
import type { RecordStore } from '../records/port.ts'

export interface LoadContext {
  store: ObjectStore
  records: RecordStore
  readiness: StoreReadiness
  pool: Pick<InferencePool, 'importModel'>
  log: Log
}

export interface Loaded { added: number, present: number, refused: number }

/** One log line for each folder; the signal ends it between two. @throws where `directory` cannot be read, or the store does not answer */
export async function loadModels(context: LoadContext, directory: string, signal?: AbortSignal): Promise<Loaded> {
  await context.readiness.ensure()
  const loaded: Loaded = { added: 0, present: 0, refused: 0 }
  for (const folder of await foldersBelow(directory)) {
    if (signal?.aborted === true) break
    const outcome = await loadFolder(context, folder)
    loaded[outcome] += 1
  }
  return loaded
}

interface Folder { path: string, name: string, version: string }

/** In order, so that every node says the same. */
async function foldersBelow(directory: string): Promise<Folder[]> {
  const folders: Folder[] = []
  for (const name of await foldersIn(directory)) {
    for (const version of await foldersIn(join(directory, name))) folders.push({ path: join(directory, name, version), name, version })
  }
  if (folders.length > MODEL_FOLDERS_MAX) throw new Error(`${directory} holds more than ${MODEL_FOLDERS_MAX} models`)
  return folders
}

/** Also those that are links. */
async function foldersIn(path: string): Promise<string[]> {
  const names = (await readdir(path)).filter(name => !name.startsWith('.')).toSorted()
  const found = await Promise.all(names.map(name => stat(join(path, name)).then(info => info.isDirectory(), () => false)))
  return names.filter((_, index) => found[index])
}

/** Why a folder is no model that can be served. */
class Unusable extends Error {}

async function loadFolder(context: LoadContext, folder: Folder): Promise<keyof Loaded> {
  const facts = { model: folder.name, version: folder.version, folder: folder.path }
  try {
    const manifest = await readManifest(folder)
    const added = await bringIn(context, folder, manifest)
    context.log.info({ action: added ? 'models.load.added' : 'models.load.present', ...facts })
    return added ? 'added' : 'present'
  } catch (error) {
    context.log.warn({ action: 'models.load.refused', ...facts, ...detailsOf(error), err: error }, (error as Error).message)
    return 'refused'
  }
}

function detailsOf(error: unknown): Record<string, unknown> {
  return isPenstockError(error) ? { ...error.details } : {}
}

async function readManifest({ path, name, version }: Folder): Promise<ModelManifest> {
  const file = join(path, 'model.json')
  if ((await stat(file)).size > MANIFEST_MAX_BYTES) throw new Unusable(`model.json has more than ${MANIFEST_MAX_BYTES} bytes`)
  const manifest = parseModelManifest(await readFile(file, 'utf8'))
  if (manifest.name !== name || String(manifest.version) !== version) {
    throw new Unusable(`model.json says ${manifest.name}/${manifest.version}: the folders must be called so`)
  }
  return manifest
}

/** Is it new? */
async function bringIn(context: LoadContext, folder: Folder, manifest: ModelManifest): Promise<boolean> {
  const { store, records, pool, log } = context
  const known = await records.models.find(folder.name, folder.version)
  const staging = stagingKeys()
  const { sha256, size, signature, staged } = await pool.importModel(join(folder.path, 'model.onnx'), await storedHash(store, known), { onStaging: staging.add }).catch(async (error: unknown) => {
    for (const { key } of staging.all()) await deleteStaging(context, key)
    throw error
  })
  try {
    if (known !== undefined && known.sha256 !== sha256) throw otherBytes()
    if (known !== undefined && !isDeepStrictEqual(known.manifest, manifest)) {
      log.warn({ action: 'models.load.manifest_kept', model: folder.name, version: folder.version }, 'model.json was changed under a known version: what is recorded stays')
    }
    if (staged === null) return false
    return await publish(context, { manifest, signature }, { sha256, size, staged })
  } finally {
    if (staged !== null) await deleteStaging(context, staged.key)
  }
}

/** The sweeper comes by. */
async function deleteStaging({ store, log }: LoadContext, key: string): Promise<void> {
  try {
    await store.delete(key)
  } catch (error) {
    log.warn({ action: 'models.load.staging_left', key, err: error })
  }
}

/** Its hash, where the object is there. */
async function storedHash(store: ObjectStore, known: ModelRecord | undefined): Promise<string[]> {
  return known !== undefined && await store.head(known.key) !== undefined ? [known.sha256] : []
}

function otherBytes(): Unusable {
  return new Unusable('this version is known with other bytes: a changed model needs another version')
}

async function publish(context: LoadContext, checked: CheckedModel, file: { sha256: string, size: number, staged: StagedResult }): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    const outcome = await tryToPublish(context, checked, file)
    if (outcome === 'conflict') throw otherBytes()
    if (outcome !== 'reclaim') return outcome === 'added'
    if (attempt === RECLAIM_ATTEMPTS_MAX) throw new Error('the hash of the model is being collected')
    await delay(RECLAIM_PAUSE_MS)
  }
}

async function tryToPublish({ store, records, readiness }: LoadContext, checked: CheckedModel, { sha256, size, staged }: { sha256: string, size: number, staged: StagedResult }) {
  const abilities = await readiness.ensure()
  const published = await publishStaged({ store, records }, abilities, { key: staged.key, etag: staged.etag, sha256, size }, { name: 'model.onnx', contentType: 'application/octet-stream' })
  if (published === undefined) return 'reclaim' as const
  await storeManifest(store, abilities, sha256, checked.manifest)
  return await records.models.add({ ...newModel(checked, { sha256, key: published.key, size }), claim: published.claim })
}
