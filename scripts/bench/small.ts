/** Small uploads through the service against the same SDK putting straight into the store, alternating. */
import type { BenchOptions } from './main.ts'
import { measure, median } from './measure.ts'
import { order, startProgram, startService } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startMinioStore, startSink } from './stores.ts'
import { ADMIN, send, uploadUrl } from './upload.ts'

const SIZE_BYTES = 64 * 1024
const COUNT = 2000
const MIN_RATIO = 0.6

export async function benchSmall({ rounds, parallel, store: kind }: BenchOptions): Promise<Report> {
  const store = kind === 'minio' ? await startMinioStore(COUNT * SIZE_BYTES) : await startSink()
  const stops = [store.stop]
  try {
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const direct = await startProgram('sdk-direct.ts', store.env)
    stops.unshift(direct.stop)
    const service = await startService(store.env)
    stops.unshift(service.stop)
    const request = { count: COUNT, parallel, sizeBytes: SIZE_BYTES }
    const subjects = [
      { name: 'sdk direct', pid: direct.pid, run: () => order<{ wallSeconds: number }>(direct, request) },
      { name: 'penstock', pid: service.pid, run: () => send(load, { ...request, url: uploadUrl(service), headers: ADMIN }) }
    ]
    const rows: Record<string, string | number>[] = []
    for (let round = 0; round <= rounds; round += 1) {
      for (const { name, pid, run } of round % 2 === 0 ? subjects : subjects.toReversed()) {
        const { cost, result } = await measure(pid, run)
        await store.empty()
        if (round > 0) rows.push({ round, subject: name, 'op/s': COUNT / result.wallSeconds, 'CPU ms/op': cost.cpuSeconds * 1000 / COUNT, 'peak RSS MiB': cost.peakRssMib })
      }
    }
    const of = (subject: string, column: string) => median(rows.filter(row => row.subject === subject).map(row => Number(row[column])))
    return {
      name: 'small',
      setup: { store: kind, rounds, parallel, 'size KiB': SIZE_BYTES / 1024, 'uploads a round': COUNT, ...machine() },
      rows,
      figures: [
        { name: 'sdk direct', value: of('sdk direct', 'op/s'), unit: 'op/s' },
        { name: 'penstock', value: of('penstock', 'op/s'), unit: 'op/s' },
        { name: 'penstock / sdk direct', value: of('penstock', 'op/s') / of('sdk direct', 'op/s'), unit: '×', bound: { at: 'least', value: MIN_RATIO } },
        { name: 'CPU of penstock', value: of('penstock', 'CPU ms/op'), unit: 'ms per upload' }
      ]
    }
  } finally {
    for (const stop of stops) await stop()
  }
}
