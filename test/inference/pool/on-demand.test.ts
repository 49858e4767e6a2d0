import t from 'tap'
import assert from 'node:assert/strict'
import type { Test } from 'tap'
import { createOnDemandPool } from '../../../src/inference/pool/on-demand.ts'
import { eventually } from '../../support/raw-client.ts'
import { isAlive, makePool } from '../../support/scripted-pool.ts'
import type { StartScript } from '../../support/scripted-worker.ts'

const check = (steps: unknown[] = []) => ({ key: 'k', sha256: 'a', size: 1, manifest: { do: steps } })

function onDemand(t: Test, idleMs: number, start: () => StartScript = () => ({})) {
  let created = 0
  const pool = createOnDemandPool({
    idleMs,
    create: () => {
      created += 1
      return makePool(t, { start: start() }).pool
    }
  })
  t.teardown(() => pool.close())
  return { pool, created: () => created }
}

t.test('a pool on demand starts at first use and ends when it was idle', async t => {
  const { pool, created } = onDemand(t, 100)
  await pool.start()
  t.equal(created(), 0)
  t.equal(pool.free, 0)
  t.same(pool.status(), [])
  const [one, two] = await Promise.all([pool.checkModel(check()), pool.checkModel(check([{ sleepMs: 300 }]))])
  t.same(one, two)
  t.equal(created(), 1)
  const pid = pool.status()[0]!.pid!
  await eventually(() => assert.deepEqual([pool.status(), isAlive(pid)], [[], false]))
  await pool.checkModel(check())
  t.equal(created(), 2, 'and starts again')
})

t.test('it is not ended while it is used', async t => {
  const { pool, created } = onDemand(t, 50)
  await pool.checkModel(check())
  await pool.checkModel(check([{ sleepMs: 300 }]))
  t.equal(created(), 1)
})

t.test('one that did not start is tried anew', async t => {
  let times = 0
  const { pool, created } = onDemand(t, 1000, () => {
    times += 1
    return times === 1 ? { unusable: 'not now' } : {}
  })
  await t.rejects(pool.checkModel(check()), { message: 'not now' })
  await pool.checkModel(check())
  t.equal(created(), 2)
})

t.test('closed, it takes nothing more', async t => {
  const { pool, created } = onDemand(t, 1000)
  const checking = pool.checkModel(check([{ sleepMs: 60_000 }]))
  const refused = t.rejects(checking, { code: 'shutdown' })
  await pool.close()
  await refused
  await t.rejects(pool.checkModel(check()), { code: 'shutdown' })
  t.equal(created(), 1)
})
