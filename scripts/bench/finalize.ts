/**
 * Finalize against the store's own bare copy of the same bytes, alternating, and the bytes that went through the
 * process meanwhile: read and write calls count sockets too, as the upload before it shows.
 */
import { CopyObjectCommand } from '@aws-sdk/client-s3'
import type { BenchOptions } from './main.ts'
import { ioBytes, median } from './measure.ts'
import { startProgram, startService } from './processes.ts'
import type { Running } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startMinioStore } from './stores.ts'
import type { BenchStore } from './stores.ts'
import { ADMIN, MIB, send, uploadUrl } from './upload.ts'

const MAX_RATIO = 1.2
/** Requests, answers, records and logs of a finalize; a thousandth of the object's bytes. */
const MAX_MIB_THROUGH_PROCESS = 0.2

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number, result: T }> {
  const before = performance.now()
  const result = await work()
  return { ms: performance.now() - before, result }
}

/** Returns the canonical key. */
async function finalize(service: Running, key: string): Promise<string> {
  const response = await fetch(`${service.url}/finalize`, { method: 'POST', headers: { ...ADMIN, 'content-type': 'application/json' }, body: JSON.stringify({ key }) })
  const body = await response.text()
  if (response.status !== 200) throw new Error(`finalize answered ${response.status}: ${body}`)
  return (JSON.parse(body) as { canonicalKey: string }).canonicalKey
}

/** Bytes that the process moved by read and write calls while `work` ran, in MiB. */
async function movedMib<T>(pid: number, work: () => Promise<T>): Promise<{ moved: number, result: T }> {
  const before = ioBytes(pid)
  const result = await work()
  const after = ioBytes(pid)
  return { moved: (after.read - before.read + after.written - before.written) / MIB, result }
}

async function bareCopy({ calls }: BenchStore, key: string, round: number): Promise<void> {
  await calls.client.send(new CopyObjectCommand({ Bucket: calls.bucket, Key: `sha256/bare-copy-${round}`, CopySource: `${calls.bucket}/${key}` }))
}

export async function benchFinalize({ rounds, sizeMib }: BenchOptions): Promise<Report> {
  const sizeBytes = sizeMib * MIB
  const store = await startMinioStore(3 * sizeBytes)
  const stops = [store.stop]
  try {
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const service = await startService(store.env)
    stops.unshift(service.stop)
    const rows: Record<string, string | number>[] = []
    for (let round = 0; round <= rounds; round += 1) {
      const uploaded = await movedMib(service.pid, () => send(load, { url: uploadUrl(service), headers: ADMIN, count: 1, parallel: 1, sizeBytes }))
      const { upload: { key } } = JSON.parse(uploaded.result.lastBody) as { upload: { key: string } }
      // the bare copy goes first in every other round; after a finalize, which removes the staged object, it copies the canonical one
      const first = round % 2 === 0 ? await timed(() => bareCopy(store, key, round)) : undefined
      const finalized = await movedMib(service.pid, () => timed(() => finalize(service, key)))
      const bare = first ?? await timed(() => bareCopy(store, finalized.result.result, round))
      await store.empty()
      if (round === 0) continue
      rows.push({ round, 'finalize ms': finalized.result.ms, 'bare copy ms': bare.ms, 'MiB moved by upload': uploaded.moved, 'MiB moved by finalize': finalized.moved })
    }
    return describeFinalize(rounds, sizeMib, rows)
  } finally {
    for (const stop of stops) await stop()
  }
}

function describeFinalize(rounds: number, sizeMib: number, rows: Record<string, string | number>[]): Report {
  const of = (column: string) => median(rows.map(row => Number(row[column])))
  return {
    name: 'finalize',
    setup: { store: 'minio', rounds, 'size MiB': sizeMib, ...machine() },
    rows,
    figures: [
      { name: 'finalize', value: of('finalize ms'), unit: 'ms' },
      { name: 'bare copy', value: of('bare copy ms'), unit: 'ms' },
      { name: 'finalize / bare copy', value: of('finalize ms') / of('bare copy ms'), unit: '×', bound: { at: 'most', value: MAX_RATIO } },
      { name: 'moved through the process by finalize', value: of('MiB moved by finalize'), unit: 'MiB', bound: { at: 'most', value: MAX_MIB_THROUGH_PROCESS } }
    ]
  }
}
