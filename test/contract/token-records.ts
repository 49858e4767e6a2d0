/** The promises of TokenRecords (src/records/access-port.ts), held by every adapter. Two nodes are two stores over the same data. */
import { createHash, randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { TokenRecord } from '../../src/records/access-port.ts'
import type { PageCursor, RecordStore } from '../../src/records/port.ts'
import type { MakeDatabase } from './record-store.ts'

/** @param make an empty database of its own for one test */
export async function tokenRecordsContract(t: Test, name: string, make: MakeDatabase): Promise<void> {
  const sections = { finding, removing, lists, pruning, nodes }
  for (const [title, section] of Object.entries(sections)) await t.test(`${name}: ${title}`, async section$ => section(section$, make))
}

// ---- builders

type NewToken = Parameters<RecordStore['tokens']['create']>[0]

async function migrated(t: Test, make: MakeDatabase, options?: { now?: () => number }): Promise<RecordStore> {
  const store = (await make(t)).open(options)
  await store.migrate()
  return store
}

const hashOf = (value: string) => createHash('sha256').update(value).digest('hex')

function newToken(changes: Partial<NewToken> = {}): NewToken {
  const id = changes.id ?? randomUUID()
  return { id, kind: 'api', account: 'acme', subject: 'ada', scopes: ['penstock:upload'], expiresAt: null, tokenHash: hashOf(id), ...changes }
}

/** All pages, and that no page is longer than asked for. */
async function listAll(t: Test, store: RecordStore, limit: number): Promise<TokenRecord[]> {
  const all: TokenRecord[] = []
  for (let after: PageCursor | undefined; ;) {
    const rows = await store.tokens.list({ limit, ...(after && { after }) })
    t.ok(rows.length <= limit)
    all.push(...rows)
    if (rows.length < limit) return all
    after = rows.at(-1)
  }
}

// ---- finding

function finding(t: Test, make: MakeDatabase): void {
  t.test('a token reads back as it was written, by its hash alone', async t => {
    const store = await migrated(t, make, { now: () => 1_790_000_000_123 })
    const { tokenHash, ...token } = newToken({ account: `Zoë 🦑 "quoted" \\ %_'--`, subject: 'auth0|1', scopes: ['a', '!#%&', 'penstock:job.read'], expiresAt: 1_790_000_000_999 })
    const record = { ...token, createdAt: 1_790_000_000_123 }
    t.strictSame(await store.tokens.create({ ...token, tokenHash }), record)
    t.strictSame(await store.tokens.find(tokenHash), record)
    t.equal(await store.tokens.find(hashOf('another')), undefined)
    t.equal(await store.tokens.find(token.id), undefined)
    t.equal(await store.tokens.find(tokenHash.toUpperCase()), undefined, 'not the same text')
  })

  t.test('a public token has no subject, and may have neither scopes nor an end', async t => {
    const store = await migrated(t, make)
    const token = newToken({ kind: 'public', subject: null, scopes: [] })
    await store.tokens.create(token)
    t.match(await store.tokens.find(token.tokenHash), { kind: 'public', account: 'acme', subject: null, scopes: [], expiresAt: null })
  })

  t.test('one that is over is found, with the time', async t => {
    const store = await migrated(t, make)
    const token = newToken({ expiresAt: 1000 })
    await store.tokens.create(token)
    t.match(await store.tokens.find(token.tokenHash), { id: token.id, expiresAt: 1000 })
  })

  t.test('an id or a hash that is taken, and a subject that does not go with the kind, are refused and change nothing', async t => {
    const store = await migrated(t, make)
    const token = newToken()
    await store.tokens.create(token)
    for (const bad of [
      newToken({ id: token.id, subject: 'eve' }), newToken({ tokenHash: token.tokenHash, subject: 'eve' }),
      newToken({ kind: 'public', subject: 'eve' }), newToken({ kind: 'api', subject: null })
    ]) await t.rejects(store.tokens.create(bad), { code: 'RECORD_STORE_FAILED' })
    t.match(await store.tokens.list({ limit: 10 }), [{ id: token.id, subject: 'ada' }])
  })

  t.test('neither a hash nor anything made of it is in what the records give', async t => {
    const store = await migrated(t, make)
    const token = newToken()
    const shown = JSON.stringify([await store.tokens.create(token), await store.tokens.find(token.tokenHash), await store.tokens.list({ limit: 1 })])
    t.notOk(shown.includes(token.tokenHash))
  })
}

// ---- removing

function removing(t: Test, make: MakeDatabase): void {
  t.test('a removed token is not found any more; removing it again does nothing and says so', async t => {
    const store = await migrated(t, make)
    const [gone, kept] = [newToken(), newToken()]
    await store.tokens.create(gone)
    await store.tokens.create(kept)
    t.equal(await store.tokens.remove(gone.id), true)
    t.equal(await store.tokens.find(gone.tokenHash), undefined)
    t.match(await store.tokens.find(kept.tokenHash), { id: kept.id })
    t.equal(await store.tokens.remove(gone.id), false)
    t.equal(await store.tokens.remove(randomUUID()), false)
  })

  t.test('of many that remove one at once, one did', async t => {
    const store = await migrated(t, make)
    const token = newToken()
    await store.tokens.create(token)
    const outcomes = await Promise.all(Array.from({ length: 8 }, () => store.tokens.remove(token.id)))
    t.equal(outcomes.filter(Boolean).length, 1)
  })
}

// ---- lists

function lists(t: Test, make: MakeDatabase): void {
  t.test('newest first, page by page, each once, also where many have one time', async t => {
    let now = 1000
    const store = await migrated(t, make, { now: () => now })
    const ids: string[] = []
    for (let index = 0; index < 7; index += 1) {
      now = 1000 + Math.floor(index / 3)
      const token = newToken({ expiresAt: index === 2 ? 1 : null })
      ids.push(token.id)
      await store.tokens.create(token)
    }
    const whole = await listAll(t, store, 100)
    t.strictSame(whole.map(({ id }) => id).toSorted(), ids.toSorted(), 'those that are over too')
    const sorted = whole.toSorted((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1))
    t.strictSame(whole, sorted)
    for (const limit of [1, 2, 3]) t.strictSame(await listAll(t, store, limit), whole, `pages of ${limit}`)
  })

  t.test('a page goes on behind an entry that was removed', async t => {
    let now = 1000
    const store = await migrated(t, make, { now: () => now })
    for (; now < 1004; now += 1) await store.tokens.create(newToken())
    const [first, second, third] = await store.tokens.list({ limit: 3 })
    await store.tokens.remove(second!.id)
    t.match(await store.tokens.list({ limit: 1, after: second! }), [{ id: third!.id }])
    t.match(await store.tokens.list({ limit: 1, after: first! }), [{ id: third!.id }])
  })

  t.test('an empty table is an empty list', async t => {
    t.strictSame(await (await migrated(t, make)).tokens.list({ limit: 10 }), [])
  })
}

// ---- pruning

function pruning(t: Test, make: MakeDatabase): void {
  t.test('removes what was over by then, the oldest first, no more than asked for, and nothing that has no end', async t => {
    const store = await migrated(t, make)
    const tokens = [newToken({ expiresAt: 1000 }), newToken({ expiresAt: 1002 }), newToken({ expiresAt: 1001 }), newToken({ expiresAt: 1003 }), newToken({ expiresAt: null })]
    for (const token of tokens) await store.tokens.create(token)
    const left = async () => (await Promise.all(tokens.map(({ tokenHash }) => store.tokens.find(tokenHash)))).map(found => found !== undefined)
    t.equal(await store.tokens.prune(999, 10), 0)
    t.equal(await store.tokens.prune(1002, 2), 2)
    t.strictSame(await left(), [false, true, false, true, true])
    t.equal(await store.tokens.prune(1002, 2), 1, 'the very millisecond counts')
    t.strictSame(await left(), [false, false, false, true, true])
    t.equal(await store.tokens.prune(Number.MAX_SAFE_INTEGER, 10), 1)
    t.strictSame(await left(), [false, false, false, false, true])
    t.equal(await store.tokens.prune(Number.MAX_SAFE_INTEGER, 10), 0)
  })
}

// ---- nodes

function nodes(t: Test, make: MakeDatabase): void {
  t.test('what one node made and removed, another sees at once', async t => {
    const database = await make(t)
    const [first, second] = [database.open(), database.open()]
    await first.migrate()
    const token = newToken()
    await first.tokens.create(token)
    t.match(await second.tokens.find(token.tokenHash), { id: token.id })
    await second.tokens.remove(token.id)
    t.equal(await first.tokens.find(token.tokenHash), undefined)
  })

  t.test('nodes that prune at once remove each token once', async t => {
    const database = await make(t)
    const [first, second] = [database.open(), database.open()]
    await first.migrate()
    for (let index = 0; index < 20; index += 1) await first.tokens.create(newToken({ expiresAt: 1000 + index }))
    const counts = await Promise.all([first, second, first, second].map(store => store.tokens.prune(2000, 100)))
    t.equal(counts.reduce((sum, count) => sum + count), 20)
    t.strictSame(await first.tokens.list({ limit: 1 }), [])
  })
}
