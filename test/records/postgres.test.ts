import { randomUUID } from 'node:crypto'
import { inspect } from 'node:util'
import { Client } from 'pg'
import t from 'tap'
import { RecordStoreFailed } from '../../src/records/port.ts'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import { recordStoreContract } from '../contract/record-store.ts'
import { ownPostgresOrSkip, postgresOrSkip } from '../support/postgres.ts'

t.test('the record store contract', async t => {
  const server = await postgresOrSkip(t)
  if (server === undefined) return
  const database = await server.createDatabase()
  await recordStoreContract(t, 'postgres', async t => {
    const url = await createSchema(database)
    return {
      open(options) {
        const store = postgresRecordStore({ url, ...options })
        t.teardown(() => store.close())
        return store
      }
    }
  })

  await t.test('a schema newer than the program is refused and left alone', async t => {
    const url = await server.createDatabase()
    const store = postgresRecordStore({ url })
    t.teardown(() => store.close())
    await store.migrate()
    await query(url, `insert into schema_migrations values (1000, 'from the future', 0)`)
    await t.rejects(store.migrate(), { name: 'RecordStoreFailed', message: /schema of the database has version 1000/ })
  })

  await t.test('a wrong password is an error that names no password and no address', async t => {
    const address = new URL(server.url)
    address.password = 'hunter2-hunter2'
    const store = postgresRecordStore({ url: address.href })
    t.teardown(() => store.close())
    const error = await store.check().then(() => undefined, (thrown: unknown) => thrown)
    t.ok(error instanceof RecordStoreFailed)
    t.match((error as Error).message, /28P01/)
    t.notMatch(inspect(error, { depth: 20, showHidden: true }), /hunter2/)
    t.notMatch((error as Error).message, /127\.0\.0\.1|postgres:\/\//)
  })

  await t.test('commits are on disk when they are answered, whatever the database says, and no less strict than it says', async t => {
    for (const [setting, used] of [['off', 'on'], ['on', 'on'], ['remote_apply', 'remote_apply']]) {
      const url = await server.createDatabase()
      await query(url, `alter database "${new URL(url).pathname.slice(1)}" set synchronous_commit = '${setting}'`)
      t.strictSame(await query(url, 'show synchronous_commit'), [{ synchronous_commit: setting }])
      const store = postgresRecordStore({ url })
      t.teardown(() => store.close())
      await store.migrate()
      await query(url, `create function note() returns trigger language plpgsql as $$ begin new.key = current_setting('synchronous_commit'); return new; end $$;
        create trigger note before insert on multipart_intents for each row execute function note()`)
      await Promise.all(['a', 'b', 'c'].map(key => store.multiparts.record(key)))
      t.strictSame((await store.multiparts.listStale(Date.now() + 1000, 10)).map(({ key }) => key), [used, used, used])
    }
  })

  await t.test('numbers of other users of pg are read as before', async t => {
    t.strictSame(await query(server.url, 'select 1::bigint as n'), [{ n: '1' }])
  })
})

t.test('an address that is none is refused without repeating it', async t => {
  const error = (() => {
    try {
      return postgresRecordStore({ url: 'postgres://user:hunter2@[broken/db' })
    } catch (thrown) {
      return thrown
    }
  })()
  t.ok(error instanceof RecordStoreFailed)
  t.notMatch(inspect(error, { depth: 20, showHidden: true }), /hunter2/)
})

t.test('a server that is not there is an error, and the next call works when it is back', async t => {
  const server = await ownPostgresOrSkip(t)
  if (server === undefined) return
  const store = postgresRecordStore({ url: await server.createDatabase(), maxConnections: 3 })
  t.teardown(() => store.close())
  await store.migrate()
  // all connections are open and idle when the server goes
  await Promise.all([store.check(), store.check(), store.check()])
  await server.halt()
  await t.rejects(store.check(), RecordStoreFailed)
  await t.rejects(store.objects.claim({ sha256: 'a1', key: 'k', size: 1, contentType: 'x' }), RecordStoreFailed)
  await server.start()
  await t.resolves(store.check())
  t.ok(await store.objects.claim({ sha256: 'a1', key: 'k', size: 1, contentType: 'x' }))
})

t.test('a server that goes down in the middle of transactions fails those calls, and half of none is left', async t => {
  const server = await ownPostgresOrSkip(t)
  if (server === undefined) return
  const url = await server.createDatabase()
  const store = postgresRecordStore({ url, maxConnections: 3 })
  t.teardown(() => store.close())
  await store.migrate()
  const holder = new Client({ connectionString: url })
  holder.on('error', () => {})
  await holder.connect()
  t.teardown(() => holder.end().catch(() => {}))
  // whoever writes waits for this lock, inside its transaction
  await holder.query('begin; lock table objects in exclusive mode')
  const claims = ['a1', 'b2', 'c3', 'd4'].map(sha256 => store.objects.claim({ sha256, key: sha256, size: 1, contentType: 'x' }))
  const settled = Promise.allSettled(claims)
  await waiting(server.url, 3)
  // a fast shutdown may end the holder first, and one that waits then gets the lock and commits
  await server.crash()
  for (const each of (await settled).slice(0, 3)) {
    t.equal(each.status, 'rejected')
    t.ok(each.status === 'rejected' && each.reason instanceof RecordStoreFailed)
  }
  t.ok(await store.objects.claim({ sha256: 'a1', key: 'a1', size: 1, contentType: 'x' }))
  t.strictSame(await query(url, `select count(*)::int as n from objects where key in ('b2', 'c3')`), [{ n: 0 }])
})

/** An empty schema of its own is as good as a database, and made in a hundredth of the time. */
async function createSchema(url: string): Promise<string> {
  const name = `test_${randomUUID().replaceAll('-', '')}`
  await query(url, `create schema ${name}`)
  const address = new URL(url)
  address.searchParams.set('options', `-c search_path=${name}`)
  return address.href
}

/** Until this many sessions wait for a lock. */
async function waiting(url: string, count: number): Promise<void> {
  for (;;) {
    const [row] = await query(url, `select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock'`) as { n: number }[]
    if (row!.n >= count) return
  }
}

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}
