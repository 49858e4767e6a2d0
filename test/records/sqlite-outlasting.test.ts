import { join } from 'node:path'
import t from 'tap'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { outlastingRecordsContract } from '../contract/outlasting-records.ts'

t.test('the contract of what outlasts a node', async t => {
  await outlastingRecordsContract(t, 'sqlite', async t => {
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
