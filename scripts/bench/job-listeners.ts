/**
 * Many event streams on one job: opened while it waits behind another, held until it has ended. What each heard is compared
 * with the events that are there afterwards; progress that was superseded meanwhile may be missing, and nothing else.
 */
import sharp from 'sharp'
import { startJobs } from './job-services.ts'
import type { JobStack, RecordsKind } from './job-services.ts'
import type { ListenReport } from './listen.ts'
import type { BenchOptions } from './main.ts'
import { measure, median } from './measure.ts'
import { order, startProgram } from './processes.ts'
import type { Running } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { ADMIN, MIB } from './upload.ts'

const CHANNELS = 3
const END_EVENT = 'generation_complete'

/** Returns the job of one image whose pixels take that much memory: it is worked on tile by tile. */
async function postImage({ url }: Running, sizeMib: number): Promise<string> {
  const side = Math.ceil(Math.sqrt(sizeMib * MIB / CHANNELS))
  const image = await sharp({ create: { width: side, height: side, channels: CHANNELS, background: '#3366cc' } }).png().toBuffer()
  const form = new FormData()
  form.set('model', 'edges')
  form.set('input', new Blob([new Uint8Array(image)], { type: 'image/png' }), 'plain.png')
  const response = await fetch(`${url}/api/v1/jobs`, { method: 'POST', headers: { ...ADMIN, 'idempotency-key': crypto.randomUUID() }, body: form })
  const body = await response.text()
  if (response.status !== 202) throw new Error(`a job was answered ${response.status}: ${body}`)
  return (JSON.parse(body) as { job_id: string }).job_id
}

async function seqsOf({ url }: Running, id: string): Promise<number[]> {
  const response = await fetch(`${url}/api/v1/jobs/${id}/events`, { headers: { ...ADMIN, accept: 'application/x-ndjson' } })
  return (await response.text()).split('\n').filter(Boolean).map(line => (JSON.parse(line) as { seq: number }).seq)
}

/** How many listeners did not hear all that had to be heard, once and in order. */
export function countLost({ heard, ended }: ListenReport, seqs: readonly number[]): number {
  let lost = 0
  for (const [text, listeners] of Object.entries(heard)) {
    const numbers = text.split(',').map(Number)
    const inOrder = numbers.every((seq, at) => at === 0 || seq > numbers[at - 1]!)
    if (!inOrder || !seqs.every(seq => numbers.includes(seq))) lost += listeners
  }
  const all = Object.values(ended).reduce((sum, each) => sum + each, 0)
  return Math.max(lost, all - (ended[END_EVENT] ?? 0))
}

/** Events that a listener heard, of those that were written. */
function heardPart({ heard }: ListenReport, written: number): number {
  return median(Object.entries(heard).flatMap(([text, listeners]) => Array.from({ length: listeners }, () => text.split(',').length / written)))
}

async function oneRound(stack: JobStack, listeners: Running, { parallel, sizeMib }: BenchOptions): Promise<Record<string, number>> {
  const api = stack.apis[0]!
  await postImage(api, sizeMib)
  const id = await postImage(api, sizeMib)
  const idle = await measure(api.pid, async () => {})
  const { cost, result } = await measure(api.pid, async () => {
    await order(listeners, { url: `${api.url}/api/v1/jobs/${id}/events`, count: parallel, headers: ADMIN })
    return await order<ListenReport>(listeners, {})
  })
  const seqs = await seqsOf(api, id)
  const written = seqs.at(-1) ?? 0
  return {
    'events written': written, 'heard of them %': heardPart(result, written) * 100, 'listeners with a loss': countLost(result, seqs),
    'RSS before MiB': idle.cost.medianRssMib, 'peak RSS MiB': cost.peakRssMib, 'CPU s': cost.cpuSeconds, seconds: cost.wallSeconds
  }
}

export async function benchJobListeners(options: BenchOptions): Promise<Report> {
  const rows: Record<string, string | number>[] = []
  const listeners = await startProgram('listen.ts')
  try {
    for (const records of ['sqlite', 'postgres'] satisfies RecordsKind[]) {
      const stack = await startJobs({ records, store: 'minio', env: { WORKERS: '1' } })
      try {
        for (let round = 1; round <= options.rounds; round += 1) rows.push({ round, records, listeners: options.parallel, ...await oneRound(stack, listeners, options) })
      } finally {
        await stack.stop()
      }
    }
  } finally {
    await listeners.stop()
  }
  const of = (records: string, column: string) => rows.filter(row => row.records === records).map(row => Number(row[column]))
  return {
    name: 'job-listeners',
    setup: { rounds: options.rounds, listeners: options.parallel, 'image MiB': options.sizeMib, ...machine() },
    rows,
    figures: ['sqlite', 'postgres'].flatMap(records => [
      { name: `${records}: listeners with a loss`, value: Math.max(...of(records, 'listeners with a loss')), unit: '', bound: { at: 'most' as const, value: 0 } },
      { name: `${records}: peak RSS of the service`, value: median(of(records, 'peak RSS MiB')), unit: 'MiB' },
      { name: `${records}: memory of a listener`, value: (median(of(records, 'peak RSS MiB')) - median(of(records, 'RSS before MiB'))) * 1024 / options.parallel, unit: 'KiB' }
    ])
  }
}
