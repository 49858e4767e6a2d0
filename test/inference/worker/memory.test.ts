import t from 'tap'
import { readFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import sharp from 'sharp'
import { startWorkerPools as start } from '../../support/worker-pools.ts'

t.setTimeout(300_000)

const MIB = 1024 * 1024

t.test('an image of 100 megapixels goes through in the memory of a few tiles', async t => {
  const { input, builtIn, pool: open, store } = await start(t)
  const { pool } = await open(t)
  const peak = async (): Promise<number> => Number(/^VmHWM:\s*(\d+) kB$/m.exec(await readFile(`/proc/${pool.status()[0]!.pid}/status`, 'utf8'))![1]) * 1024
  const model = await builtIn('edges')
  const run = async (side: number) => {
    const picture = await sharp({ create: { width: side, height: side, channels: 3, background: '#808080' } }).jpeg().toBuffer()
    return await pool.run({ id: String(side), task: 'image-to-image', model, params: {}, inputs: [await input(picture)] }, { timeoutMs: 300_000 })
  }
  await run(3000) // several tiles, and an image that lies on disk, too
  const before = await peak()
  const { results } = await run(10_000)
  const grown = await peak() - before
  t.ok(grown < 150 * MIB, `it grew by ${Math.round(grown / MIB)} MiB, where 260 more of decoded image came, and 87 of result`)
  t.match(await sharp(await buffer((await store.open(results[0]!.key)).body)).metadata(), { width: 10_000, height: 10_000 })
})
