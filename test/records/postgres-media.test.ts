import { randomUUID } from 'node:crypto'
import { Client } from 'pg'
import t from 'tap'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import { mediaRecordsContract, mediaUpgradeContract } from '../contract/media-records.ts'
import { postgresOrSkip } from '../support/postgres.ts'
import { secondSchema } from '../support/second-schema.ts'

t.test('the contract of media records', async t => {
  const server = await postgresOrSkip(t)
  if (server === undefined) return
  const database = await server.createDatabase()
  await mediaRecordsContract(t, 'postgres', async t => {
    const url = await createSchema(database)
    return {
      open(options) {
        const store = postgresRecordStore({ url, maxConnections: 5, ...options })
        t.teardown(() => store.close())
        return store
      }
    }
  })

  await t.test('results of jobs of a database before the library are in it', async t => {
    const url = await createSchema(database)
    const client = new Client({ connectionString: url })
    await client.connect()
    await client.query(secondSchema('text collate "C"'))
    await client.end()
    const store = postgresRecordStore({ url })
    t.teardown(() => store.close())
    await mediaUpgradeContract(t, store)
  })

  await t.test('pages of a library are read along their index, whatever is null and however many there are', async t => {
    const url = await createSchema(database)
    const store = postgresRecordStore({ url })
    t.teardown(() => store.close())
    await store.migrate()
    const client = new Client({ connectionString: url })
    await client.connect()
    t.teardown(() => client.end())
    await client.query('alter table files disable trigger all')
    await client.query(`insert into files (id, filename, content_type, size, sha256, key, access, subject, account, owner, created_at, media_folder, media_name)
      select gen_random_uuid(), 'f', 'image/png', 1, 'a', 'k', 'account', case when n % 2 = 0 then 's0' end, case when n / 2 % 2 = 0 then 'a0' end, '[]', n,
        case n % 5 when 0 then 'images' when 1 then 'uploads' end, case n % 5 when 0 then 'images/' || n when 1 then n || '/f' end from generate_series(1, 20000) as n`)
    await client.query('analyze files')
    for (const account of [`= 'a0'`, 'is null']) {
      for (const subject of [`= 's0'`, 'is null']) {
        const { rows } = await client.query<Record<'QUERY PLAN', string>>(`explain select created_at, id from files where account ${account} and subject ${subject} and media_folder is not null and media_folder = 'images'
          and (created_at, id) < (15000, 'x') order by account desc, subject desc, media_folder desc, created_at desc, id desc limit 20`)
        const plan = rows.map(row => row['QUERY PLAN']).join('\n')
        t.match(plan, /Index (Only )?Scan Backward using files_media /, `${account}, ${subject}`)
        t.notMatch(plan, /Sort|Filter/, plan)
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
