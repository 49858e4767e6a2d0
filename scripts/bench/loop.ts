/** Delay of the service's event loop while uploads stream through it. */
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import type { BenchOptions } from './main.ts'
import { median } from './measure.ts'
import { LOOP_DELAY_MARK, startProgram, startService } from './processes.ts'
import type { Running } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startSink } from './stores.ts'
import { ADMIN, MIB, send, uploadUrl } from './upload.ts'

export const MAX_P99_MS = 20
const ANSWER_TIMEOUT_MS = 10_000

export interface Delay { p50: number, p99: number, max: number, count: number }

/** What the loop saw since the last question. */
export async function askDelay(service: Running): Promise<Delay> {
  const { stderr } = service.child
  if (stderr === null) throw new Error('the service was started without its standard error')
  const lines = createInterface({ input: stderr })
  const answer = new Promise<Delay>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the service did not say how its event loop does')), ANSWER_TIMEOUT_MS)
    lines.on('line', line => {
      if (!line.startsWith(LOOP_DELAY_MARK)) return
      clearTimeout(timer)
      resolve(JSON.parse(line.slice(LOOP_DELAY_MARK.length)) as Delay)
    })
  })
  process.kill(service.pid, 'SIGUSR2')
  try {
    return await answer
  } finally {
    lines.close()
    stderr.resume()
  }
}

export async function benchLoop({ rounds, parallel, sizeMib }: BenchOptions): Promise<Report> {
  const store = await startSink()
  const stops = [store.stop]
  try {
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const service = await startService(store.env, ['--import', join(import.meta.dirname, 'loop-delay.ts')])
    stops.unshift(service.stop)
    const rows: Record<string, string | number>[] = []
    for (let round = 0; round <= rounds; round += 1) {
      await askDelay(service)
      await send(load, { url: uploadUrl(service), headers: ADMIN, count: parallel, parallel, sizeBytes: sizeMib * MIB })
      const { p50, p99, max, count } = await askDelay(service)
      if (round > 0) rows.push({ round, 'p50 ms': p50, 'p99 ms': p99, 'max ms': max, samples: count })
    }
    return {
      name: 'loop',
      setup: { rounds, parallel, 'size MiB': sizeMib, ...machine() },
      rows,
      figures: [{ name: 'event-loop delay, p99', value: median(rows.map(row => Number(row['p99 ms']))), unit: 'ms', bound: { at: 'most', value: MAX_P99_MS } }]
    }
  } finally {
    for (const stop of stops) await stop()
  }
}
