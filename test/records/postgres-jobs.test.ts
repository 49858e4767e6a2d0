import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import type { JobHint, NewJob } from '../../src/records/jobs-port.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import { jobRecordsContract } from '../contract/job-records.ts'
import { recordUpgradeContract } from '../contract/record-upgrade.ts'
import { firstSchema } from '../support/first-schema.ts'
import { ownPostgresOrSkip, postgresOrSkip } from '../support/postgres.ts'

t.test('the job records contract', async t => {
  const server = await postgresOrSkip(t)
  if (server === undefined) return
  const database = await server.createDatabase()
  await jobRecordsContract(t, 'postgres', async t => {
    const url = await createSchema(database)
    return {
      open(options) {
        const store = postgresRecordStore({ url, maxConnections: 5, ...options })
        t.teardown(() => store.close())
        return store
      }
    }
  })

  await t.test('a database of the first schema is brought up to date with its rows', async t => {
    const url = await createSchema(database)
    await query(url, firstSchema('text collate "C"'))
    await recordUpgradeContract(t, open(t, url))
  })

  await t.test('hints reach other nodes, once, and not before what they tell of is there', async t => {
    const url = await createSchema(await server.createDatabase())
    const [first, second] = [open(t, url), open(t, url)]
    await first.migrate()
    const [here, there] = [listen(first), listen(second)]
    await Promise.all([here.opened(), there.opened()])
    const seen: (string | undefined)[] = []
    const job = newJob()
    second.jobs.subscribe(hint => { if (hint.kind === 'queued') void second.jobs.get(job.id).then(found => seen.push(found?.status)) })
    await first.jobs.create(job)
    await there.until({ kind: 'queued' })
    await until(() => seen.length > 0)
    t.equal(seen[0], 'queued')
    await first.jobs.requestCancel(job.id)
    await there.until({ kind: 'job', jobId: job.id })
    await first.jobs.create(newJob({ queueMax: 0 }))
    await second.jobs.retry(job.id)
    await here.until({ kind: 'queued' })
    await here.until({ kind: 'job', jobId: job.id })
    // all that was sent has arrived once this has
    await first.jobs.remove(job.id)
    const last = newJob()
    await first.jobs.create(last)
    await first.jobs.requestCancel(last.id)
    await there.until({ kind: 'job', jobId: last.id })
    t.equal(count(there.heard, job.id), 3, 'cancel, retry (its own) and removal')
    t.equal(count(here.heard, job.id), 3)
    t.equal(there.heard.filter(({ kind }) => kind === 'queued').length, 3, 'two new jobs, one retry')
  })
})

t.test('the connection for hints comes back by itself, and says to look at the queue', async t => {
  const server = await ownPostgresOrSkip(t)
  if (server === undefined) return
  const url = await server.createDatabase()
  const [first, second] = [open(t, url), open(t, url)]
  await first.migrate()
  const ear = listen(second)
  await ear.opened()
  ear.heard.length = 0
  await query(url, `select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen %'`)
  await ear.until({ kind: 'queued' })
  ear.heard.length = 0
  await server.crash()
  await until(async () => await first.check().then(() => true, () => false))
  await ear.until({ kind: 'queued' })
  const job = newJob()
  await first.jobs.create(job)
  await first.jobs.requestCancel(job.id)
  await ear.until({ kind: 'job', jobId: job.id })
  t.pass('hints come again')
})

t.test('a store whose server is away closes, and nothing of it goes on', async t => {
  const store = postgresRecordStore({ url: 'postgres://nobody:x@127.0.0.1:1/none' })
  store.jobs.subscribe(() => t.fail('a hint of nobody'))
  await sleep(20)
  await store.close()
  t.pass('closed')
})

t.test('a store whose server takes connections and says nothing closes without waiting for it', async t => {
  const sockets: Socket[] = []
  const silent = createServer(socket => { sockets.push(socket.on('error', () => {}).resume()) }).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const store = postgresRecordStore({ url: `postgres://nobody:x@127.0.0.1:${(silent.address() as AddressInfo).port}/none` })
  store.jobs.subscribe(() => t.fail('a hint of nobody'))
  await until(() => sockets.length > 0)
  await store.close()
  await until(() => sockets.every(socket => socket.destroyed))
  silent.close()
  await once(silent, 'close')
  t.equal(sockets.length, 1)
})

function open(t: Test, url: string): RecordStore {
  const store = postgresRecordStore({ url, maxConnections: 5 })
  t.teardown(() => store.close())
  return store
}

function newJob(changes: Partial<NewJob> = {}): NewJob {
  return {
    id: randomUUID(), owner: { subject: 'ada', account: null, clientId: null }, userId: null, model: { name: 'm', version: '1', sha256: 'm' }, task: 't', params: {}, priority: 0,
    inputs: [], cache: true, memoKey: 'k', webhook: null, idempotency: null, reservation: null, queueMax: 100, stageTimings: {}, ...changes
  }
}

const count = (heard: JobHint[], id: string) => heard.filter(hint => hint.kind === 'job' && hint.jobId === id).length

function listen(store: RecordStore) {
  const heard: JobHint[] = []
  store.jobs.subscribe(hint => heard.push(hint))
  const hears = async (wanted: JobHint) => until(() => heard.some(hint => JSON.stringify(hint) === JSON.stringify(wanted)))
  return {
    heard,
    until: hears,
    /** The connection is there: opening it is a hint. */
    async opened() {
      await hears({ kind: 'queued' })
      heard.length = 0
    }
  }
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 30_000; !await holds(); await sleep(5)) {
    if (Date.now() > deadline) throw new Error('it did not come to that')
  }
}

/** An empty schema of its own is as good as a database, and made in a hundredth of the time. */
async function createSchema(url: string): Promise<string> {
  const name = `test_${randomUUID().replaceAll('-', '')}`
  await query(url, `create schema ${name}`)
  const address = new URL(url)
  address.searchParams.set('options', `-c search_path=${name}`)
  return address.href
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
