/** What the sweeper of a node would do when everything there is has become old. */
import { setTimeout as delay } from 'node:timers/promises'
import { sweep, type SweepReport } from '../../src/ingest/sweep.ts'
import { openObjectStore, openRecordStore } from '../../src/stores.ts'
import type { StartedApp } from './start-app.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }

export async function sweepNow({ config }: Pick<StartedApp, 'config'>): Promise<SweepReport> {
  await delay(1100) // stores keep whole seconds
  const [store, records] = [openObjectStore(config), openRecordStore(config)]
  try {
    return await sweep({ store, records, log: quiet }, new Date(), AbortSignal.timeout(20_000))
  } finally {
    await store.close()
    await records.close()
  }
}
