import { join } from 'node:path'
import t from 'tap'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { referencesContract } from '../contract/references.ts'

t.test('what keeps bytes, and what lets them go', async t => {
  await referencesContract(t, 'sqlite', async t => {
    const file = join(t.testdir(), 'records.db')
    return {
      open(options) {
        const store = sqliteRecordStore({ file, ...options })
        t.teardown(() => store.close())
        return store
      }
    }
  })
})
