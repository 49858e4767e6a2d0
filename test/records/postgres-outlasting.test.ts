import t from 'tap'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import { outlastingRecordsContract } from '../contract/outlasting-records.ts'
import { postgresOrSkip } from '../support/postgres.ts'

t.test('the contract of what outlasts a node', async t => {
  const server = await postgresOrSkip(t)
  if (server === undefined) return
  await outlastingRecordsContract(t, 'postgres', async t => {
    const url = await server.createDatabase()
    return {
      open(options) {
        const store = postgresRecordStore({ url, maxConnections: 5, ...options })
        t.teardown(() => store.close())
        return store
      }
    }
  })
})
