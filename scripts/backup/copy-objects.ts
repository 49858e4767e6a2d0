/** Copies what records point at from one store to another, and says what came of it. */
import type { ObjectStore } from '../../src/objects/port.ts'
import { probeStore } from '../../src/objects/probe.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { copyObject, referencedObjects, unnoted } from '../migrate/between-stores.ts'
import { CONCURRENCY_DEFAULT } from '../migrate/limits.ts'
import { workThrough, type Ending, type Outcome, type Totals } from '../migrate/work.ts'

export interface Copied extends Totals {
  failures: { key: string, reason: string }[]
  /** failures of a store itself, a full disk for one: tried again, they may not come again */
  passing: number
  /** why it ended before it was through */
  ended?: string
}

/** `verify`: what is in the target already is read again. */
export async function copyReferenced(snapshot: string, source: ObjectStore, target: ObjectStore, { verify, ending }: { verify: boolean, ending: Ending }): Promise<Copied> {
  const records = sqliteRecordStore({ file: snapshot })
  const failures: { key: string, reason: string }[] = []
  let passing = 0
  try {
    const abilities = await probeStore(target, unnoted)
    const { totals, ended } = await workThrough({
      entries: referencedObjects(records, ending.draining), concurrency: CONCURRENCY_DEFAULT, ending,
      perform: (object, signal) => copyObject({ source, target }, object, { abilities, verify, onBytes() {} }, signal),
      onOutcome({ name, outcome, reason = '', own = false }: Outcome) {
        if (outcome !== 'failed') return
        if (own) passing += 1
        console.error(`${name} ${reason}`)
        failures.push({ key: name, reason })
      }
    })
    return { ...totals, failures, passing, ...(ended !== undefined && { ended }) }
  } finally {
    await records.close()
  }
}
