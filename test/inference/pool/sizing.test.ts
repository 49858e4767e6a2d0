import t from 'tap'
import { availableParallelism } from 'node:os'
import { defaultWorkers, sizePool } from '../../../src/inference/pool/sizing.ts'

t.test('without a wish one core is left to the service, and a GPU has one worker', async t => {
  t.equal(defaultWorkers('cpu', 1), 1)
  t.equal(defaultWorkers('auto', 8), 7)
  t.equal(defaultWorkers('cuda', 8), 1)
  t.equal(defaultWorkers('webgpu', 8), 1)
  t.equal(defaultWorkers('cpu'), Math.max(1, availableParallelism() - 1))
})

t.test('workers and their threads are together no more than the cores', async t => {
  for (let cores = 1; cores <= 64; cores += 1) {
    for (const workers of [undefined, 1, 2, 3, 5, 8, cores]) {
      for (const threads of [undefined, 1, 4, 1024]) {
        const size = sizePool({ workers, threads, device: 'cpu', cores })
        t.ok(size.intraOpNumThreads >= 1 && (size.workers > cores || size.workers * size.intraOpNumThreads <= cores), `${cores} cores, ${workers} × ${threads}`)
      }
    }
  }
  t.match(sizePool({ workers: 2, threads: undefined, device: 'cpu', cores: 9 }), { workers: 2, workersOnGpu: 2, intraOpNumThreads: 4 })
  t.match(sizePool({ workers: undefined, threads: 2, device: 'auto', cores: 4 }), { workers: 3, workersOnGpu: 1, intraOpNumThreads: 1 })
})
