/** CPU seconds per GiB of an upload, against a bare pass-through that hashes, to the same store in the same run. */
import type { BenchOptions } from './main.ts'
import { measure, median } from './measure.ts'
import { order, startProgram, startService } from './processes.ts'
import type { Running } from './processes.ts'
import type { LoadOrder, LoadReport } from './load.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startMinioStore, startSink } from './stores.ts'

export const MIB = 1024 * 1024
export const GIB = 1024 * MIB
export const ADMIN = { 'x-alga-admin': 'true' }
const MAX_RATIO = 1.1

/** Where a body goes in the service. */
export const uploadUrl = (service: Running) => `${service.url}/upload-proxy?filename=bench.bin&size={size}`

/** Sends and insists that every answer was this. */
export async function send(load: Running, request: LoadOrder, status = 200): Promise<LoadReport> {
  const report = await order<LoadReport>(load, request)
  const good = report.statuses[status] ?? 0
  if (good !== request.count) throw new Error(`only ${good} of ${request.count} uploads were right: ${JSON.stringify(report.statuses)} ${report.lastBody}`)
  return report
}

export async function benchUpload({ rounds, parallel, sizeMib, store: kind }: BenchOptions): Promise<Report> {
  const sizeBytes = sizeMib * MIB
  const store = kind === 'minio' ? await startMinioStore(parallel * sizeBytes) : await startSink()
  const stops = [store.stop]
  try {
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const baseline = await startProgram('baseline.ts', { STORE_URL: `${store.bucketUrl}/sha256/baseline` })
    stops.unshift(baseline.stop)
    const service = await startService(store.env)
    stops.unshift(service.stop)
    const subjects = [
      { name: 'baseline', running: baseline, url: `${baseline.url}/` },
      { name: 'penstock', running: service, url: uploadUrl(service) }
    ]
    const rows: Record<string, string | number>[] = []
    // round 0 warms everything up and is thrown away; every other round goes in the opposite order
    for (let round = 0; round <= rounds; round += 1) {
      for (const { name, running, url } of round % 2 === 0 ? subjects : subjects.toReversed()) {
        const { cost } = await measure(running.pid, () => send(load, { url, headers: ADMIN, count: parallel, parallel, sizeBytes }))
        await store.empty()
        if (round === 0) continue
        const gib = parallel * sizeBytes / GIB
        rows.push({ round, subject: name, 'CPU s/GiB': cost.cpuSeconds / gib, 'MiB/s': gib * 1024 / cost.wallSeconds, 'peak RSS MiB': cost.peakRssMib })
      }
    }
    return describeUpload({ rounds, parallel, sizeMib, store: kind }, rows)
  } finally {
    for (const stop of stops) await stop()
  }
}

function describeUpload({ rounds, parallel, sizeMib, store }: BenchOptions, rows: Record<string, string | number>[]): Report {
  const of = (subject: string, column: string) => median(rows.filter(row => row.subject === subject).map(row => Number(row[column])))
  return {
    name: 'upload',
    setup: { store, rounds, parallel, 'size MiB': sizeMib, ...machine() },
    rows,
    figures: [
      { name: 'baseline', value: of('baseline', 'CPU s/GiB'), unit: 'CPU s/GiB' },
      { name: 'penstock', value: of('penstock', 'CPU s/GiB'), unit: 'CPU s/GiB' },
      { name: 'penstock / baseline', value: of('penstock', 'CPU s/GiB') / of('baseline', 'CPU s/GiB'), unit: '×', bound: { at: 'most', value: MAX_RATIO } },
      { name: 'peak RSS of penstock', value: of('penstock', 'peak RSS MiB'), unit: 'MiB' }
    ]
  }
}
