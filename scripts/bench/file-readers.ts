/** Memory under many slow readers at once: what the store gives faster than they take must wait in the store. */
import { putFile, read } from './file-services.ts'
import type { BenchOptions } from './main.ts'
import { measure } from './measure.ts'
import { startProgram, startService } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startMinioStore } from './stores.ts'
import { ADMIN, MIB } from './upload.ts'

const MAX_RSS_MIB = 250
/** Of each reader. A file is some times what sockets on loopback hold. */
const PACE_MIB_PER_SECOND = 2

export async function benchFileReaders({ rounds, parallel, sizeMib }: BenchOptions): Promise<Report> {
  const sizeBytes = sizeMib * MIB
  const store = await startMinioStore(2 * sizeBytes)
  const stops = [store.stop]
  try {
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const reader = await startProgram('read.ts')
    stops.unshift(reader.stop)
    const service = await startService({ ...store.env, ROLES: 'api', MAX_FILE_SIZE_BYTES: String(sizeBytes) })
    stops.unshift(service.stop)
    const { file_id: id } = await putFile(load, service, sizeBytes)
    const slowly = { url: `${service.url}/files/${id}`, headers: [ADMIN], count: parallel, parallel, bytesPerSecond: PACE_MIB_PER_SECOND * MIB }
    const rows: Record<string, string | number>[] = []
    for (let round = 1; round <= rounds; round += 1) {
      const { cost } = await measure(service.pid, () => read(reader, slowly, sizeBytes))
      rows.push({ round, 'right answers': parallel, 'peak RSS MiB': cost.peakRssMib, 'median RSS MiB': cost.medianRssMib, 'MiB/s': parallel * sizeMib / cost.wallSeconds })
    }
    const peaks = rows.map(row => Number(row['peak RSS MiB']))
    return {
      name: 'file-readers',
      setup: { store: 'minio', rounds, parallel, 'size MiB': sizeMib, 'MiB/s of each': PACE_MIB_PER_SECOND, ...machine() },
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
