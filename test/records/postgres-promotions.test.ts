import { randomUUID } from 'node:crypto'
import { Client } from 'pg'
import t from 'tap'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import { promotionRecordsContract } from '../contract/promotion-records.ts'
import { postgresOrSkip } from '../support/postgres.ts'

t.test('the promotion records contract', async t => {
  const server = await postgresOrSkip(t)
  if (server === undefined) return
  const database = await server.createDatabase()
  await promotionRecordsContract(t, 'postgres', async t => {
    const url = await createSchema(database)
    return {
      open(options) {
        const store = postgresRecordStore({ url, maxConnections: 3, ...options })
        t.teardown(() => store.close())
        return store
      }
    }
  })
})

/** An empty schema of its own is as good as a database, and made in a hundredth of the time. */
async function createSchema(url: string): Promise<string> {
  const name = `test_${randomUUID().replaceAll('-', '')}`
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query(`create schema ${name}`)
  await client.end()
  const address = new URL(url)
  address.searchParams.set('options', `-c search_path=${name}`)
  return address.href
}
