/** CPU seconds per GiB of a download from MinIO, against a bare pass-through of the same object in the same run. */
import { putFile, read } from './file-services.ts'
import type { BenchOptions } from './main.ts'
import { measure, median } from './measure.ts'
import { startProgram, startService } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startMinioStore } from './stores.ts'
import { ADMIN, GIB, MIB } from './upload.ts'

const MAX_RATIO = 1.05

export async function benchFileDownload({ rounds, parallel, sizeMib }: BenchOptions): Promise<Report> {
  const sizeBytes = sizeMib * MIB
  // staged, then at its own path
  const store = await startMinioStore(2 * sizeBytes)
  const stops = [store.stop]
  try {
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const reader = await startProgram('read.ts')
    stops.unshift(reader.stop)
    const baseline = await startProgram('read-baseline.ts', { STORE_URL: store.bucketUrl })
    stops.unshift(baseline.stop)
    const service = await startService({ ...store.env, ROLES: 'api', MAX_FILE_SIZE_BYTES: String(sizeBytes) })
    stops.unshift(service.stop)
    const { file_id: id, sha256 } = await putFile(load, service, sizeBytes)
    const subjects = [
      { name: 'baseline', running: baseline, url: `${baseline.url}/sha256/${sha256}/object` },
      { name: 'penstock', running: service, url: `${service.url}/files/${id}` }
    ]
    const rows: Record<string, string | number>[] = []
    // round 0 warms everything up and is thrown away; every other round goes in the opposite order
    for (let round = 0; round <= rounds; round += 1) {
      for (const { name, running, url } of round % 2 === 0 ? subjects : subjects.toReversed()) {
        const { cost } = await measure(running.pid, () => read(reader, { url, headers: [ADMIN], count: parallel, parallel }, sizeBytes))
        if (round === 0) continue
        const gib = parallel * sizeBytes / GIB
        rows.push({ round, subject: name, 'CPU s/GiB': cost.cpuSeconds / gib, 'MiB/s': gib * 1024 / cost.wallSeconds, 'peak RSS MiB': cost.peakRssMib })
      }
    }
    const of = (subject: string, column: string) => median(rows.filter(row => row.subject === subject).map(row => Number(row[column])))
    return {
      name: 'file-download',
      setup: { store: 'minio', rounds, parallel, 'size MiB': sizeMib, ...machine() },
      rows,
      figures: [
        { name: 'baseline', value: of('baseline', 'CPU s/GiB'), unit: 'CPU s/GiB' },
        { name: 'penstock', value: of('penstock', 'CPU s/GiB'), unit: 'CPU s/GiB' },
        { name: 'penstock / baseline', value: of('penstock', 'CPU s/GiB') / of('baseline', 'CPU s/GiB'), unit: '×', bound: { at: 'most', value: MAX_RATIO } },
        { name: 'peak RSS of penstock', value: of('penstock', 'peak RSS MiB'), unit: 'MiB' }
      ]
    }
  } finally {
    for (const stop of stops) await stop()
  }
}
