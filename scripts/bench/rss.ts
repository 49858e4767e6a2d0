/** Memory under many large uploads at once: flat from round to round, and small. */
import type { BenchOptions } from './main.ts'
import { measure } from './measure.ts'
import { startProgram, startService } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startSink } from './stores.ts'
import { ADMIN, MIB, send, uploadUrl } from './upload.ts'

const MAX_RSS_MIB = 250

export async function benchRss({ rounds, parallel, sizeMib }: BenchOptions): Promise<Report> {
  const store = await startSink()
  const stops = [store.stop]
  try {
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const service = await startService(store.env)
    stops.unshift(service.stop)
    const rows: Record<string, string | number>[] = []
    for (let round = 1; round <= rounds; round += 1) {
      const { cost } = await measure(service.pid, () => send(load, { url: uploadUrl(service), headers: ADMIN, count: parallel, parallel, sizeBytes: sizeMib * MIB }))
      rows.push({ round, 'right answers': parallel, 'peak RSS MiB': cost.peakRssMib, 'median RSS MiB': cost.medianRssMib, 'MiB/s': parallel * sizeMib / cost.wallSeconds })
    }
    const peaks = rows.map(row => Number(row['peak RSS MiB']))
    return {
      name: 'rss',
      setup: { rounds, parallel, 'size MiB': sizeMib, ...machine() },
      rows,
      figures: [
        { name: 'peak RSS', value: Math.max(...peaks), unit: 'MiB', bound: { at: 'most', value: MAX_RSS_MIB } },
        { name: 'last peak / first peak', value: (peaks.at(-1) ?? 0) / (peaks[0] ?? 1), unit: '×' }
      ]
    }
  } finally {
    for (const stop of stops) await stop()
  }
}
