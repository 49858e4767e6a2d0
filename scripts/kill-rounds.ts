/**
 * npm run rounds -- [--rounds 100] [--store fs|minio]
 *
 * Kills the service with SIGKILL at random moments while clients upload and finalize, over and over on the same data,
 * and checks after each kill, reading the stores directly:
 *   - every finalize that was answered has its object, whole and of the right hash, and its row
 *   - every upload that was answered and not finalized is still staged, whole and of the right hash
 * and after the last one, when staging is swept and garbage collected:
 *   - nothing else is there: no staging object, no part, no temporary file, no canonical object without a row
 */
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { readConfig } from '../src/config.ts'
import { openObjectStore, openRecordStore } from '../src/stores.ts'
import { exitOnSignals, kill, startService } from './rounds/process.ts'
import { minioEnvironment, sweepAndCollect } from './rounds/stores.ts'
import { brokenUploads, leftovers, noPromises, type Promised } from './rounds/upload-checks.ts'

const CLIENTS = 6
const MAX_UPLOAD_BYTES = 4 * 1024 * 1024
const MAX_LIFE_MS = 900
const ADMIN = { 'x-alga-admin': 'true' }

export interface KillReport { rounds: number, uploads: number, finalized: number, killedDuring: number, swept: number, collected: number, faults: string[] }

/** Uploads and finalizes until the service is gone. Two of three uploads are finalized. */
async function client(url: string, promised: Promised, counts: { uploads: number }): Promise<void> {
  for (;;) {
    const bytes = randomBytes(randomInt(1, MAX_UPLOAD_BYTES))
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const uploaded = await post(`${url}/upload-proxy?filename=a.bin&size=${bytes.length}`, bytes, 'application/octet-stream')
    const { upload: { key }, sha256: told } = uploaded as { upload: { key: string }, sha256: string }
    if (told !== sha256) throw new Error(`the service hashed ${told} where ${sha256} was sent`)
    counts.uploads += 1
    promised.staged.set(key, sha256)
    if (randomInt(3) === 0) continue
    // from the moment it is asked for, either state is right until the answer is there
    promised.staged.delete(key)
    const object = await post(`${url}/finalize`, JSON.stringify({ key }), 'application/json') as { contentHash: string }
    if (object.contentHash !== sha256) throw new Error(`finalized to ${object.contentHash} where ${sha256} was sent`)
    promised.finalized.add(sha256)
  }
}

async function post(url: string, body: Uint8Array | string, type: string): Promise<unknown> {
  const response = await fetch(url, { method: 'POST', body: body as NonNullable<RequestInit['body']>, headers: { ...ADMIN, 'content-type': type } })
  const answer = await response.json()
  if (response.status !== 200) throw new Error(`${response.status} ${JSON.stringify(answer)}`)
  return answer
}

export async function killRounds({ rounds, env, dataDir, progress }: {
  rounds: number, env: Record<string, string>, dataDir: string, progress?: (text: string) => void
}): Promise<KillReport> {
  const settings = { PORT: '0', ROLES: 'api', DATA_DIR: dataDir, EXT_BUNDLES_RATELIMIT_MAX: '0', LOG_LEVEL: 'info', ...env }
  const promised: Promised = noPromises()
  const report: KillReport = { rounds, uploads: 0, finalized: 0, killedDuring: 0, swept: 0, collected: 0, faults: [] }
  const config = readConfig(settings)
  const store = openObjectStore(config)
  const records = openRecordStore(config)
  try {
    for (let round = 1; round <= rounds && report.faults.length === 0; round++) {
      const service = await startService(settings)
      const fresh: Promised = noPromises()
      const clients = Array.from({ length: CLIENTS }, () => client(service.url, fresh, report).catch((error: unknown) => error))
      await delay(randomInt(20, MAX_LIFE_MS))
      await kill(service)
      for (const error of await Promise.all(clients)) {
        // the connection breaks when the service dies; anything else was wrong before
        if (error instanceof TypeError || (error as { cause?: unknown }).cause !== undefined) report.killedDuring += 1
        else report.faults.push(String(error))
      }
      report.faults.push(...await brokenUploads({ store, records }, fresh))
      for (const [key, sha256] of fresh.staged) promised.staged.set(key, sha256)
      for (const sha256 of fresh.finalized) promised.finalized.add(sha256)
      progress?.(`round ${round}/${rounds}: ${report.uploads} uploads and ${promised.finalized.size} finalizes answered, ${report.faults.length} faults`)
    }
    report.faults.push(...await brokenUploads({ store, records }, promised))
    report.finalized = promised.finalized.size
    Object.assign(report, await sweepAndCollect({ store, records }))
    report.faults.push(...await leftovers({ store, records }, promised, dataDir))
    report.faults.push(...await brokenUploads({ store, records }, { staged: new Map(), finalized: promised.finalized }))
  } finally {
    await records.close()
    await store.close()
  }
  return report
}

async function main(): Promise<void> {
  exitOnSignals()
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '100' }, store: { type: 'string', default: 'fs' } } })
  const dataDir = await mkdtemp(join(tmpdir(), 'penstock-rounds-'))
  const { env, stop } = values.store === 'minio' ? await minioEnvironment() : { env: {}, stop: async () => {} }
  try {
    const report = await killRounds({ rounds: Number(values.rounds), env, dataDir, progress: text => console.log(text) })
    console.log(JSON.stringify(report, null, 2))
    if (report.faults.length > 0) process.exitCode = 1
  } finally {
    await stop()
    await rm(dataDir, { recursive: true, force: true })
  }
}

if (import.meta.main) await main()
