/** CPU seconds per GiB of files in multipart forms, all the way to their rows, against the same bytes raw to /upload-proxy. */
import type { BenchOptions } from './main.ts'
import { measure, median } from './measure.ts'
import { startProgram, startService } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startMinioStore } from './stores.ts'
import { ADMIN, GIB, MIB, send, uploadUrl } from './upload.ts'

const MAX_RATIO = 1.3

/** On MinIO: what a form holds has no length of its own, and the sink takes no upload in parts. */
export async function benchFileUpload({ rounds, parallel, sizeMib }: BenchOptions): Promise<Report> {
  const sizeBytes = sizeMib * MIB
  const store = await startMinioStore(2 * parallel * sizeBytes)
  const stops = [store.stop]
  try {
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const service = await startService({ ...store.env, ROLES: 'api', MAX_FILE_SIZE_BYTES: String(sizeBytes) })
    stops.unshift(service.stop)
    const same = { headers: ADMIN, count: parallel, parallel, sizeBytes }
    const subjects = [
      { name: 'raw', run: () => send(load, { ...same, url: uploadUrl(service) }) },
      { name: 'multipart', run: () => send(load, { ...same, url: `${service.url}/files/upload`, part: 'file' }, 201) }
    ]
    const rows: Record<string, string | number>[] = []
    for (let round = 0; round <= rounds; round += 1) {
      for (const { name, run } of round % 2 === 0 ? subjects : subjects.toReversed()) {
        const { cost } = await measure(service.pid, run)
        await store.empty()
        if (round === 0) continue
        const gib = parallel * sizeBytes / GIB
        rows.push({ round, subject: name, 'CPU s/GiB': cost.cpuSeconds / gib, 'MiB/s': gib * 1024 / cost.wallSeconds, 'peak RSS MiB': cost.peakRssMib })
      }
    }
    const of = (subject: string, column: string) => median(rows.filter(row => row.subject === subject).map(row => Number(row[column])))
    return {
      name: 'file-upload',
      setup: { store: 'minio', rounds, parallel, 'size MiB': sizeMib, ...machine() },
      rows,
      figures: [
        { name: 'raw', value: of('raw', 'CPU s/GiB'), unit: 'CPU s/GiB' },
        { name: 'multipart', value: of('multipart', 'CPU s/GiB'), unit: 'CPU s/GiB' },
        { name: 'multipart / raw', value: of('multipart', 'CPU s/GiB') / of('raw', 'CPU s/GiB'), unit: '×', bound: { at: 'most', value: MAX_RATIO } },
        { name: 'peak RSS of multipart', value: of('multipart', 'peak RSS MiB'), unit: 'MiB' }
      ]
    }
  } finally {
    for (const stop of stops) await stop()
  }
}
