/** Models: rows of (name, version) that point at ONNX objects. Such a row never changes but for `loaded`, and never goes. */
import { randomUUID } from 'node:crypto'
import { modelOf } from './jobs-schema.ts'
import type { ModelRecord, ModelRecords, NewModel } from './jobs-port.ts'
import { jsonText } from './schema.ts'
import type { Records, RecordsTransaction } from './schema.ts'
import { takeReferences } from './take-references.ts'
import { transact, Undo } from './transact.ts'
import { compareVersions } from './version-precedence.ts'

export function modelRecords(records: Records): ModelRecords {
  const { db } = records
  return {
    async list() {
      const rows = await db.selectFrom('models').selectAll().orderBy('name').execute()
      return rows.map(modelOf).toSorted((a, b) => compareText(a.name, b.name) || highestFirst(a, b))
    },
    find: (name, version) => findModel(records, name, version),
    async setLoaded(name, version, loaded) {
      if (!canBe(name, version)) return 0
      const { numUpdatedRows } = await db.updateTable('models').set({ loaded: loaded ? 1 : 0 }).where('name', '=', name)
        .$if(version !== undefined, query => query.where('version', '=', version!)).executeTakeFirstOrThrow()
      return Number(numUpdatedRows)
    },
    add: model => addModel(records, model)
  }
}

/** Postgres refuses NUL in a text; no name has one. */
function canBe(name: string, version = ''): boolean {
  return !name.includes('\0') && !version.includes('\0')
}

async function findModel({ db }: Records, name: string, version?: string): Promise<ModelRecord | undefined> {
  if (!canBe(name, version)) return undefined
  const rows = await db.selectFrom('models').selectAll().where('name', '=', name)
    .$if(version !== undefined, query => query.where('version', '=', version!))
    .$if(version === undefined, query => query.where('loaded', '=', 1)).execute()
  return rows.map(modelOf).toSorted(highestFirst)[0]
}

/** `3` and `3.0.0` are of one precedence: then the text decides, so that every node takes the same. */
function highestFirst(a: ModelRecord, b: ModelRecord): number {
  return compareVersions(b.version, a.version) || compareText(b.version, a.version)
}

function compareText(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}

type AddOutcome = 'added' | 'same' | 'conflict' | 'reclaim'

async function addModel(records: Records, { claim, ...model }: NewModel & { claim: string | null }): Promise<AddOutcome> {
  return transact<AddOutcome>(records, async ({ trx }) => {
    const held = await takeReferences(records, trx, [{ sha256: model.sha256, key: model.key, size: model.size, contentType: MODEL_TYPE, claim }])
    const row = await registerModel(records, trx, model)
    if (row.sha256 !== model.sha256) throw new Undo<AddOutcome>('conflict')
    if (!row.isNew) return 'same'
    if (!held) throw new Undo<AddOutcome>('reclaim')
    return 'added'
  })
}

const MODEL_TYPE = 'application/octet-stream'

/** The row of this name and version, made where it is missing; it may be of other bytes. Call it under the lock of the hash. */
export async function registerModel({ now }: Records, trx: RecordsTransaction, model: NewModel): Promise<ModelRecord & { isNew: boolean }> {
  const made = await trx.insertInto('models').values({
    id: randomUUID(),
    name: model.name,
    version: model.version,
    task: model.task,
    sha256: model.sha256,
    key: model.key,
    size: model.size,
    manifest: jsonText(model.manifest),
    signature: jsonText(model.signature),
    loaded: 1,
    created_at: now()
  }).onConflict(conflict => conflict.columns(['name', 'version']).doNothing()).returningAll().executeTakeFirst()
  if (made !== undefined) return { ...modelOf(made), isNew: true }
  const other = await trx.selectFrom('models').selectAll().where('name', '=', model.name).where('version', '=', model.version).executeTakeFirstOrThrow()
  return { ...modelOf(other), isNew: false }
}
