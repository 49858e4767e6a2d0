/** Jobs wait for a machine that is away, and do not use up their attempts on it. */
import assert from 'node:assert/strict'
import t, { type Test } from 'tap'
import { InferenceFailed, type InferencePool } from '../../src/inference/port.ts'
import { whileThere } from '../../src/inference/while-there.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import { playedPool, type PlayedPool } from '../support/played-pool.ts'
import { eventually } from '../support/raw-client.ts'

const MODEL = { name: 'upscale-2x', version: '1', sha256: 'a'.repeat(64), key: 'k', size: 1, task: 'image-to-image', manifest: {} }

interface World { pool: InferencePool, inner: PlayedPool, said: string[], asked(): number, set(there: boolean): void, run(): Promise<unknown>, told(): number }

async function world(t: Test, there: boolean): Promise<World> {
  const store = memoryObjectStore()
  await store.createBucket()
  const inner = playedPool(store, 2)
  const said: string[] = []
  let [asked, told] = [0, 0]
  const pool = whileThere(inner, {
    intervalMs: 5,
    async ask() {
      asked += 1
      if (!there) throw new InferenceFailed('node_failed', 'the GPU node cannot be reached')
    },
    onAway: reason => said.push((reason as Error).message),
    onBack: () => said.push('back')
  })
  pool.onFree(() => { told += 1 })
  t.teardown(() => pool.close())
  return {
    pool, inner, said, asked: () => asked, told: () => told, set: value => { there = value },
    run: () => pool.run({ id: 'j', task: 'image-to-image', model: MODEL, params: {}, inputs: [] }, { timeoutMs: 10_000 })
  }
}

t.test('nothing is free before the other side has answered, and whoever waits is told when it has', async t => {
  const { pool, said, set, told } = await world(t, false)
  await pool.start()
  await eventually(() => assert.equal(said.length, 1))
  t.same([pool.free, told()], [0, 0])
  set(true)
  await eventually(() => assert.equal(pool.free, 2))
  t.equal(told(), 1)
  t.same(said, ['the GPU node cannot be reached', 'back'], 'each once, however often it was asked')
})

t.test('a run that fails for the other side closes the pool to claims until it is back', async t => {
  const { pool, inner, said, set, run, asked } = await world(t, true)
  await pool.start()
  await eventually(() => assert.equal(pool.free, 2))
  set(false)
  const failing = run()
  ;(await inner.next()).fail(new InferenceFailed('node_failed', 'broke off'))
  await t.rejects(failing, { code: 'node_failed' })
  t.equal(pool.free, 0)
  await eventually(() => assert.ok(asked() > 3))
  t.equal(pool.free, 0)
  const direct = run()
  await (await inner.next()).finish('asked for directly, it is tried')
  await direct
  set(true)
  await eventually(() => assert.equal(pool.free, 2))
  t.equal(said.at(-1), 'back')
})

t.test('a failure that is not the other side\'s asks nobody', async t => {
  const { pool, inner, run, asked } = await world(t, true)
  await pool.start()
  await eventually(() => assert.equal(pool.free, 2))
  const failing = run()
  ;(await inner.next()).fail(new InferenceFailed('invalid_input', 'no image'))
  await t.rejects(failing, { code: 'invalid_input' })
  t.same([pool.free, asked()], [2, 1])
})

t.test('a place that becomes free is told of, and closing ends the asking', async t => {
  const { pool, inner, run, told, set, asked } = await world(t, true)
  await pool.start()
  await eventually(() => assert.equal(pool.free, 2))
  const before = told()
  const running = run()
  t.equal(pool.free, 1)
  await (await inner.next()).finish('x')
  await running
  t.ok(told() > before)
  set(false)
  const failing = run()
  ;(await inner.next()).fail(new InferenceFailed('node_failed', 'broke off'))
  await t.rejects(failing)
  await pool.close()
  const after = asked()
  await new Promise(resolve => setTimeout(resolve, 30))
  t.equal(asked(), after)
})
