import { createHash } from 'node:crypto'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { mintedToken, mintToken, type NewToken } from '../../src/identity/minted-tokens.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'

async function open(t: Test): Promise<RecordStore> {
  const store = sqliteRecordStore({ file: join(t.testdir(), 'records.db') })
  t.teardown(() => store.close())
  await store.migrate()
  return store
}

const api: NewToken = { kind: 'api', account: 'acme', subject: 'ada', scopes: ['penstock:upload'], expiresInSeconds: null }
const form: NewToken = { kind: 'public', account: 'acme', subject: null, scopes: [], expiresInSeconds: null }

t.test('a token is 256 random bits, an api token shows what it is, and no two are alike', async t => {
  const { tokens } = await open(t)
  const values = []
  for (let index = 0; index < 20; index += 1) {
    const [ofApi, ofForm] = [await mintToken(tokens, api), await mintToken(tokens, form)]
    t.match(ofApi.value, /^pst_[A-Za-z0-9_-]{43}$/)
    t.match(ofForm.value, /^[A-Za-z0-9_-]{43}$/)
    for (const value of [ofApi.value.slice(4), ofForm.value]) t.equal(Buffer.from(value, 'base64url').length, 32)
    values.push(ofApi.value.slice(4), ofForm.value)
  }
  t.equal(new Set(values).size, 40)
})

t.test('an api token is a user, a public one an account alone', async t => {
  const { tokens } = await open(t)
  const find = mintedToken(tokens)
  t.strictSame(await find((await mintToken(tokens, api)).value, 'api'), { kind: 'user', subject: 'ada', account: 'acme', clientId: null, scopes: ['penstock:upload'] })
  t.strictSame(await find((await mintToken(tokens, form)).value, 'public'), { kind: 'public', subject: null, account: 'acme', clientId: null, scopes: [] })
})

t.test('a value is good for its own kind only, and only as it was given', async t => {
  const { tokens } = await open(t)
  const find = mintedToken(tokens)
  const [{ value: ofApi }, { value: ofForm }] = [await mintToken(tokens, api), await mintToken(tokens, form)]
  t.equal(await find(ofApi, 'public'), null)
  t.equal(await find(ofForm, 'api'), null)
  t.equal(await find(`pst_${ofForm}`, 'api'), null)
  t.equal(await find(ofApi.slice(4), 'public'), null)
  for (const changed of [ofApi.toUpperCase(), `${ofApi} `, `${ofApi}=`, ofApi.slice(0, -1), `${ofApi}A`, `${ofApi}\n`, `${ofApi.slice(0, -1)}${ofApi.endsWith('A') ? 'B' : 'A'}`, '', 'pst_', 'x'.repeat(100_000)]) {
    t.equal(await find(changed, 'api'), null, JSON.stringify(changed.slice(0, 60)))
  }
  const id = (await tokens.list({ limit: 1 }))[0]!.id
  const hash = createHash('sha256').update(ofApi).digest('hex')
  for (const known of [id, hash, `pst_${hash.slice(0, 43)}`]) t.equal(await find(known, 'api'), null, 'what is in the records opens nothing')
})

t.test('what was never minted is not looked for', async t => {
  const find = mintedToken({ find: async () => { throw new Error('asked') } })
  for (const value of ['', 'x', 'pst_short', `pst_${'ß'.repeat(43)}`, `pst_${'a'.repeat(44)}`]) t.equal(await find(value, 'api'), null)
  t.equal(await find('a'.repeat(32), 'public'), null, 'the form of a session')
})

t.test('a token is over at its very millisecond, and says so', async t => {
  const { tokens } = await open(t)
  let now = 1_790_000_000_000
  const find = mintedToken(tokens, () => now)
  const { value, record } = await mintToken(tokens, { ...api, expiresInSeconds: 10 }, now)
  t.equal(record.expiresAt, now + 10_000)
  now += 9_999
  t.match(await find(value, 'api'), { subject: 'ada' })
  now += 1
  await t.rejects(find(value, 'api'), { code: 'TOKEN_EXPIRED' })
})

t.test('a removed token is unknown at once, to every node', async t => {
  const store = await open(t)
  const other = sqliteRecordStore({ file: join(t.testdirName, 'records.db') })
  t.teardown(() => other.close())
  const [here, there] = [mintedToken(store.tokens), mintedToken(other.tokens)]
  const { value, record } = await mintToken(store.tokens, api)
  t.ok(await there(value, 'api'))
  await store.tokens.remove(record.id)
  t.strictSame([await here(value, 'api'), await there(value, 'api')], [null, null])
})

t.test('where the records cannot be asked, a token is not called bad', async t => {
  const store = await open(t)
  const { value } = await mintToken(store.tokens, api)
  const find = mintedToken(store.tokens)
  await store.close()
  await t.rejects(find(value, 'api'), { code: 'RECORD_STORE_FAILED' })
})
