import t from 'tap'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import { referencesContract } from '../contract/references.ts'
import { postgresOrSkip } from '../support/postgres.ts'

t.test('what keeps bytes, and what lets them go', async t => {
  const server = await postgresOrSkip(t)
  if (server === undefined) return
  await referencesContract(t, 'postgres', async t => {
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
