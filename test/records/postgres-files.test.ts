import { randomUUID } from 'node:crypto'
import { Client } from 'pg'
import t from 'tap'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import { fileRecordsContract } from '../contract/file-records.ts'
import { postgresOrSkip } from '../support/postgres.ts'

t.test('the contract of shared files', async t => {
  const server = await postgresOrSkip(t)
  if (server === undefined) return
  const database = await server.createDatabase()
  await fileRecordsContract(t, 'postgres', async t => {
    const url = await createSchema(database)
    return {
      open(options) {
        const store = postgresRecordStore({ url, maxConnections: 5, ...options })
        t.teardown(() => store.close())
        return store
      }
    }
  })

  await t.test('a list of files is read along its index, whatever is null and however many there are', async t => {
    const url = await createSchema(database)
    const store = postgresRecordStore({ url })
    t.teardown(() => store.close())
    await store.migrate()
    const client = new Client({ connectionString: url })
    await client.connect()
    t.teardown(() => client.end())
    await client.query(`insert into files select gen_random_uuid(), 'f', 'text/plain', 1, 'a', 'k', 'account',
      case when n % 2 = 0 then 's' || n % 20 end, case when n % 3 = 0 then 'a' || n % 10 end, null, '[]', n from generate_series(1, 20000) as n`)
    await client.query('analyze files')
    for (const account of [`= 'a0'`, 'is null']) {
      for (const subject of [`= 's0'`, 'is null']) {
        for (const after of ['', `and (created_at, id) < (15000, 'x')`]) {
          const { rows } = await client.query<Record<'QUERY PLAN', string>>(`explain select * from files where account ${account} and subject ${subject} ${after}
            order by account desc, subject desc, created_at desc, id desc limit 20`)
          const plan = rows.map(row => row['QUERY PLAN']).join('\n')
          t.match(plan, /Index Scan Backward using files_held/, `${account}, ${subject} ${after}`)
          t.notMatch(plan, /Sort|Filter/, plan)
        }
      }
    }
  })
})

/** An empty schema of its own is as good as a database, and made in a hundredth of the time. */
async function createSchema(url: string): Promise<string> {
  const name = `test_${randomUUID().replaceAll('-', '')}`
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(`create schema ${name}`)
  } finally {
    await client.end()
  }
  const address = new URL(url)
  address.searchParams.set('options', `-c search_path=${name}`)
  return address.href
}
