/**
 * staged → finalized, with the object, the extension and its version, or nothing of it. One transaction:
 *
 *   1. compare and set the upload: this takes its row lock, so of many finalizes of one upload the first goes on, and
 *      the others wait here and then find it finalized (their answer is the first one's) or gone
 *   2. lock the hash against the collector; the claim must still hold, or the copy may have been collected: then
 *      everything is undone, and the caller is to claim and copy anew
 *   3. the object is stored
 *   4. the extension by (publisher, name), its version, or the model; other content under the same version undoes everything
 *   5. the answer is made from these rows and kept with the upload
 */
import { randomUUID } from 'node:crypto'
import type { ModelRecord, NewModel } from './jobs-port.ts'
import { lockHash } from './locks.ts'
import { registerModel } from './models.ts'
import { holdsClaim, setStored } from './objects.ts'
import type { ExtensionRecord, FinalizeInput, FinalizeOutcome, VersionInput, VersionRecord } from './port.ts'
import { extensionOf, jsonText, versionOf } from './schema.ts'
import type { Records, RecordsTransaction } from './schema.ts'
import { transact, Undo } from './transact.ts'
import { CallerFault } from './translate-errors.ts'
import { compareVersions } from './version-precedence.ts'

export async function finalizeUpload(records: Records, input: FinalizeInput): Promise<FinalizeOutcome> {
  return transact(records, ({ trx }) => finalizeWithin(records, trx, input))
}

const undo = (outcome: FinalizeOutcome) => new Undo(outcome)

async function finalizeWithin(records: Records, trx: RecordsTransaction, input: FinalizeInput): Promise<FinalizeOutcome> {
  if (!await takeStaged(records, trx, input)) return outcomeOfOther(trx, input.uploadId)
  await lockHash(records, trx, input.sha256)
  if (!await holdsClaim(records, trx, input)) throw undo({ outcome: 'reclaim' })
  await setStored(trx, input)
  const rows: FinalizedRows = {
    ...input.version && await registerVersion(records, trx, input.version),
    ...input.model && { model: await ownModel(records, trx, input.model) }
  }
  const result = jsonText(callerResult(input, rows))
  await trx.updateTable('uploads').set({ result }).where('id', '=', input.uploadId).execute()
  // what was stored is what is answered, so that the first answer and its repeats are the same
  return { outcome: 'finalized', result: JSON.parse(result) }
}

type FinalizedRows = Parameters<FinalizeInput['result']>[0]

async function takeStaged({ now }: Records, trx: RecordsTransaction, input: FinalizeInput): Promise<boolean> {
  const { numUpdatedRows } = await trx.updateTable('uploads')
    .set({ status: 'finalized', sha256: input.sha256, canonical_key: input.canonicalKey, size: input.size, updated_at: now() })
    .where('id', '=', input.uploadId).where('status', '=', 'staged').executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

async function outcomeOfOther(trx: RecordsTransaction, uploadId: string): Promise<FinalizeOutcome> {
  const row = await trx.selectFrom('uploads').select(['status', 'result']).where('id', '=', uploadId).executeTakeFirst()
  if (row?.status !== 'finalized') return { outcome: 'gone' }
  return { outcome: 'repeated', result: row.result === null ? null : JSON.parse(row.result) }
}

function callerResult(input: FinalizeInput, rows: FinalizedRows): unknown {
  try {
    return input.result(rows)
  } catch (error) {
    throw new CallerFault(error)
  }
}

async function registerVersion(records: Records, trx: RecordsTransaction, input: VersionInput): Promise<{ extension: ExtensionRecord, version: VersionRecord }> {
  const extension = await lockExtension(records, trx, input)
  const version = await insertVersion(records, trx, extension.id, input) ?? await sameVersion(trx, extension.id, input)
  if (compareVersions(version.version, extension.latestVersion) <= 0) return { extension, version }
  await trx.updateTable('extensions').set({ latest_version: version.version }).where('id', '=', extension.id).execute()
  return { extension: { ...extension, latestVersion: version.version }, version }
}

/** The extension of this identity, made where it is missing. Its row stays locked, so that latest_version cannot go back. */
async function lockExtension(records: Records, trx: RecordsTransaction, input: VersionInput): Promise<ExtensionRecord> {
  const identity = { publisher: input.publisher ?? '', name: input.name }
  await trx.insertInto('extensions')
    .values({ ...identity, id: randomUUID(), latest_version: input.version, created_at: records.now() })
    .onConflict(conflict => conflict.columns(['publisher', 'name']).doNothing()).execute()
  const row = await trx.selectFrom('extensions').selectAll()
    .where('publisher', '=', identity.publisher).where('name', '=', identity.name)
    .$if(records.name === 'postgres', query => query.forUpdate()).executeTakeFirstOrThrow()
  return extensionOf(row)
}

async function insertVersion({ now }: Records, trx: RecordsTransaction, extensionId: string, input: VersionInput): Promise<VersionRecord | undefined> {
  const row = await trx.insertInto('extension_versions').values({
    id: randomUUID(),
    extension_id: extensionId,
    version: input.version,
    content_hash: input.contentHash,
    canonical_key: input.canonicalKey,
    manifest: jsonText(input.manifest),
    signature: jsonText(input.signature),
    created_at: now()
  }).onConflict(conflict => conflict.columns(['extension_id', 'version']).doNothing()).returningAll().executeTakeFirst()
  return row && versionOf(row)
}

async function sameVersion(trx: RecordsTransaction, extensionId: string, input: VersionInput): Promise<VersionRecord> {
  const row = await trx.selectFrom('extension_versions').selectAll()
    .where('extension_id', '=', extensionId).where('version', '=', input.version).executeTakeFirstOrThrow()
  if (row.content_hash !== input.contentHash) throw undo({ outcome: 'version_conflict', contentHash: row.content_hash })
  return versionOf(row)
}

async function ownModel(records: Records, trx: RecordsTransaction, input: NewModel): Promise<ModelRecord> {
  const { isNew: _, ...model } = await registerModel(records, trx, input)
  if (model.sha256 !== input.sha256) throw undo({ outcome: 'model_conflict', sha256: model.sha256 })
  return model
}
