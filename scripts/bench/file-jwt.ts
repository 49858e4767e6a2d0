/**
 * Small reads by many users, each with a JWT, against the same reads without a credential at a service that asks for none.
 * Over the embedded stores, so that the reads themselves cost little.
 */
import { startIssuer } from '../../test/support/jwks.ts'
import { putFile, read } from './file-services.ts'
import type { BenchOptions } from './main.ts'
import { measure, median } from './measure.ts'
import { startProgram, startService } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'

const MIN_RATIO = 0.8
const SIZE_BYTES = 1024
const USERS = 64

export async function benchFileJwt({ rounds, parallel, count = 0 }: BenchOptions): Promise<Report> {
  const stops: (() => unknown)[] = []
  try {
    const issuer = await startIssuer({ teardown: stop => stops.unshift(stop) }, { alg: 'RS256' })
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const reader = await startProgram('read.ts')
    stops.unshift(reader.stop)
    const open = await startService({ ROLES: 'api' })
    stops.unshift(open.stop)
    const asking = await startService({ ROLES: 'api', ...issuer.env })
    stops.unshift(asking.stop)
    // for as long as the benchmark may take
    const exp = Math.floor(Date.now() / 1000) + 86_400
    const users = await Promise.all(Array.from({ length: USERS }, (_, user) => issuer.bearer({ sub: `user-${user}`, exp })))
    const subjects = [
      { name: 'without', running: open, headers: [{}] as Record<string, string>[] },
      { name: 'with a JWT', running: asking, headers: users as Record<string, string>[] }
    ]
    const reads: { name: string, pid: number, run: () => ReturnType<typeof read> }[] = []
    for (const { name, running, headers } of subjects) {
      const { file_id: id } = await putFile(load, running, SIZE_BYTES, headers[0])
      reads.push({ name, pid: running.pid, run: () => read(reader, { url: `${running.url}/files/${id}`, headers, count, parallel }, SIZE_BYTES) })
    }
    const rows: Record<string, string | number>[] = []
    for (let round = 0; round <= rounds; round += 1) {
      for (const { name, pid, run } of round % 2 === 0 ? reads : reads.toReversed()) {
        const { cost, result } = await measure(pid, run)
        if (round > 0) rows.push({ round, subject: name, 'op/s': count / result.wallSeconds, 'CPU ms/op': cost.cpuSeconds * 1000 / count, 'peak RSS MiB': cost.peakRssMib })
      }
    }
    const of = (subject: string, column: string) => median(rows.filter(row => row.subject === subject).map(row => Number(row[column])))
    return {
      name: 'file-jwt',
      setup: { store: 'fs', rounds, parallel, 'reads a round': count, users: USERS, 'size bytes': SIZE_BYTES, ...machine() },
      rows,
      figures: [
        { name: 'without', value: of('without', 'op/s'), unit: 'op/s' },
        { name: 'with a JWT', value: of('with a JWT', 'op/s'), unit: 'op/s' },
        { name: 'with a JWT / without', value: of('with a JWT', 'op/s') / of('without', 'op/s'), unit: '×', bound: { at: 'least', value: MIN_RATIO } },
        { name: 'CPU with a JWT / without', value: of('with a JWT', 'CPU ms/op') / of('without', 'CPU ms/op'), unit: '×' }
      ]
    }
  } finally {
    for (const stop of stops) await stop()
  }
}
