import t from 'tap'
import { readFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import sharp from 'sharp'
import { startWorkerPools as start } from '../../support/worker-pools.ts'

t.setTimeout(300_000)

const MIB = 1024 * 1024

t.test('an image of 100 megapixels goes through in the memory of a few tiles', async t => {
  const { input, builtIn, pool: open, store } = await start(t)
  const { pool } = await open(t)
  const model = await builtIn('edges')

  /** Bytes that are the process's own. Pages of files that are mapped (libvips maps what lies on disk) go whenever they are wanted elsewhere. */
  const own = async (): Promise<number> => Number(/^RssAnon:\s*(\d+) kB$/m.exec(await readFile(`/proc/${pool.status()[0]!.pid}/status`, 'utf8'))![1]) * 1024

  const run = async (side: number) => {
    const picture = await sharp({ create: { width: side, height: side, channels: 3, background: '#808080' } }).jpeg().toBuffer()
    // the same tiles for both: only how many there are differs
    const running = pool.run({ id: String(side), task: 'image-to-image', model, params: { tile: 1024 }, inputs: [await input(picture)] }, { timeoutMs: 300_000 })
    let peak = 0
    while (await Promise.race([running.then(() => false), delay(5, true)])) peak = Math.max(peak, await own())
    return { peak, results: (await running).results }
  }
  // several tiles, and an image that lies on disk, too; twice: collecting garbage is not exact
  const peaks = [(await run(3500)).peak, (await run(3500)).peak]
  const { peak, results } = await run(10_000)
  const grown = peak - Math.max(...peaks)
  t.ok(grown < 150 * MIB, `it grew by ${Math.round(grown / MIB)} MiB, where 250 more of decoded image came, and 85 of result`)
  t.match(await sharp(await buffer((await store.open(results[0]!.key)).body)).metadata(), { width: 10_000, height: 10_000 })
})
