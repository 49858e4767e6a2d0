/** CPU seconds per GiB, and memory, of promoting a result from MinIO to a file gateway, against a bare pass-through of the same object. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canonicalKey } from '../../src/objects/keys.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { putFile, type StoredFile } from './file-services.ts'
import type { BenchOptions } from './main.ts'
import { measure, median } from './measure.ts'
import { startProgram, startService } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startMinioStore } from './stores.ts'
import { ADMIN, GIB, MIB } from './upload.ts'

const MAX_RATIO = 1.15
const RESULT = 'result.bin'
const LEASE_MS = 60_000

/** A completed job whose result is this file, laid out beside the service in its own records: nothing has to run for it. */
async function jobOf(dataDir: string, { sha256, size }: StoredFile): Promise<string> {
  const records = sqliteRecordStore({ file: join(dataDir, 'penstock.db') })
  try {
    const id = randomUUID()
    await records.jobs.create({
      id, owner: { subject: null, account: null, clientId: null }, userId: null, model: { name: 'bench', version: '1', sha256: 'bench' }, task: 'exec', params: {}, priority: 0, cache: false,
      memoKey: id, webhook: null, idempotency: null, reservation: null, queueMax: 1, stageTimings: {}, inputs: []
    })
    await records.jobs.claim({ token: id, worker: 'bench', leaseMs: LEASE_MS })
    const result = { name: RESULT, filename: RESULT, sha256, key: canonicalKey(sha256, 'object'), size, contentType: 'application/octet-stream', claim: null }
    const done = await records.jobs.complete(id, id, { results: [result], execution: { provider: 'cpu', device: 'cpu', worker: 'bench', cached: false } })
    if (done !== 'completed') throw new Error(`the job of the benchmark is ${done}`)
    return id
  } finally {
    await records.close()
  }
}

async function post(url: string, body?: object): Promise<void> {
  const answer = await fetch(url, { method: 'POST', headers: { ...ADMIN, ...(body && { 'content-type': 'application/json' }) }, ...(body && { body: JSON.stringify(body) }) })
  const text = await answer.text()
  if (answer.status !== 200) throw new Error(`${url} answered ${answer.status}: ${text}`)
}

export async function benchPromote({ rounds, parallel, sizeMib }: BenchOptions): Promise<Report> {
  const sizeBytes = sizeMib * MIB
  const dataDir = await mkdtemp(join(tmpdir(), 'penstock-bench-promote-'))
  const stops = [() => rm(dataDir, { recursive: true, force: true })]
  const start = async <T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> => {
    const started = await starting
    stops.unshift(started.stop)
    return started
  }
  try {
    // staged, then at its own path
    const store = await start(startMinioStore(2 * sizeBytes))
    const load = await start(startProgram('load.ts'))
    const gateway = await start(startProgram('gateway.ts'))
    const baseline = await start(startProgram('promote-baseline.ts', { STORE_URL: store.bucketUrl, GATEWAY_URL: gateway.url }))
    const service = await start(startService({
      ...store.env, ROLES: 'api', DATA_DIR: dataDir, MAX_FILE_SIZE_BYTES: String(sizeBytes), API_V1_RATE_LIMIT_MAX: '0',
      FILE_GATEWAY_BASE_URL: gateway.url, FILE_GATEWAY_AUDIENCE: 'bench', OIDC_TOKEN_URL: `${gateway.url}/token`, OIDC_CLIENT_ID: 'bench', OIDC_CLIENT_SECRET: 'bench'
    }))
    const file = await putFile(load, service, sizeBytes)
    const id = await jobOf(dataDir, file)
    const subjects = [
      { name: 'baseline', running: baseline, promote: () => post(`${baseline.url}/sha256/${file.sha256}/object`) },
      { name: 'penstock', running: service, promote: () => post(`${service.url}/api/v1/jobs/${id}/promote`, { source: RESULT, target_object_key: randomUUID() }) }
    ]
    const rows: Record<string, string | number>[] = []
    // round 0 warms everything up and is thrown away; every other round goes in the opposite order
    for (let round = 0; round <= rounds; round += 1) {
      for (const { name, running, promote } of round % 2 === 0 ? subjects : subjects.toReversed()) {
        const { cost } = await measure(running.pid, () => Promise.all(Array.from({ length: parallel }, promote)))
        if (round === 0) continue
        const gib = parallel * sizeBytes / GIB
        rows.push({ round, subject: name, 'CPU s/GiB': cost.cpuSeconds / gib, 'MiB/s': gib * 1024 / cost.wallSeconds, 'peak RSS MiB': cost.peakRssMib })
      }
    }
    return describe({ rounds, parallel, sizeMib }, rows)
  } finally {
    for (const stop of stops) await stop()
  }
}

function describe({ rounds, parallel, sizeMib }: Omit<BenchOptions, 'store'>, rows: Record<string, string | number>[]): Report {
  const of = (subject: string, column: string) => rows.filter(row => row.subject === subject).map(row => Number(row[column]))
  const [baseline, penstock] = [median(of('baseline', 'CPU s/GiB')), median(of('penstock', 'CPU s/GiB'))]
  const peaks = of('penstock', 'peak RSS MiB')
  return {
    name: 'promote',
    setup: { store: 'minio', rounds, parallel, 'size MiB': sizeMib, ...machine() },
    rows,
    figures: [
      { name: 'baseline', value: baseline, unit: 'CPU s/GiB' },
      { name: 'penstock', value: penstock, unit: 'CPU s/GiB' },
      { name: 'penstock / baseline', value: penstock / baseline, unit: '×', bound: { at: 'most', value: MAX_RATIO } },
      { name: 'peak RSS of penstock', value: Math.max(...peaks), unit: 'MiB' },
      { name: 'last peak / first peak', value: (peaks.at(-1) ?? 0) / (peaks[0] ?? 1), unit: '×' }
    ]
  }
}
