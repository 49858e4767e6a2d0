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
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { readConfig } from '../src/config.ts'
import { collect } from '../src/ingest/collect.ts'
import { sweep } from '../src/ingest/sweep.ts'
import { CANONICAL_PREFIX, canonicalKey, PROBE_PREFIX, STAGING_PREFIX } from '../src/objects/keys.ts'
import type { ObjectStore } from '../src/objects/port.ts'
import type { RecordStore } from '../src/records/port.ts'
import { openObjectStore, openRecordStore } from '../src/stores.ts'
import { startMinio } from './servers/minio.ts'

const CLIENTS = 6
const MAX_UPLOAD_BYTES = 4 * 1024 * 1024
const MAX_LIFE_MS = 900
const ADMIN = { 'x-alga-admin': 'true' }

/** What clients were told, and so what must be there. */
interface Promised {
  /** staging key → sha256 of uploads that were answered 200 and not known to be finalized */
  staged: Map<string, string>
  /** sha256 of finalizes that were answered 200 */
  finalized: Set<string>
}

export interface KillReport { rounds: number, uploads: number, finalized: number, killedDuring: number, swept: number, collected: number, faults: string[] }

interface Service { child: ChildProcess, url: string }

async function startService(env: Record<string, string>): Promise<Service> {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../src/main.ts')], {
    env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'pipe', 'inherit']
  })
  for await (const line of createInterface({ input: child.stdout! })) {
    const entry = JSON.parse(line) as { action?: string, address?: string, message?: string }
    if (entry.action !== 'service.listening') continue
    child.stdout!.resume()
    return { child, url: entry.address! }
  }
  throw new Error('the service ended before it listened')
}

async function kill({ child }: Service): Promise<void> {
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

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

async function digestOf(store: ObjectStore, key: string): Promise<string | undefined> {
  if (await store.head(key) === undefined) return undefined
  const hash = createHash('sha256')
  for await (const chunk of (await store.open(key)).body) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** Everything that was promised and is not so. */
async function brokenPromises(store: ObjectStore, records: RecordStore, promised: Promised): Promise<string[]> {
  const faults: string[] = []
  for (const sha256 of promised.finalized) {
    const key = canonicalKey(sha256, 'object')
    if (await digestOf(store, key) !== sha256) faults.push(`${key} was finalized and is not there whole`)
    if (await records.uploads.findFinalized(key) === undefined) faults.push(`${key} was finalized and has no row`)
  }
  for (const [key, sha256] of promised.staged) {
    const id = key.slice(STAGING_PREFIX.length).split('/')[0]!
    if (await digestOf(store, key) !== sha256) faults.push(`${key} was staged and is not there whole`)
    if ((await records.uploads.get(id))?.status !== 'staged') faults.push(`${key} was staged and its row does not say so`)
  }
  return faults
}

/** Everything that is there when it should not be, after sweep and collection. */
async function leftovers(store: ObjectStore, records: RecordStore, promised: Promised, dataDir: string): Promise<string[]> {
  const faults: string[] = []
  for (const prefix of [STAGING_PREFIX, PROBE_PREFIX]) {
    for await (const { key } of store.list(prefix)) faults.push(`${key} was left`)
  }
  for await (const { key } of store.list(CANONICAL_PREFIX)) {
    const finalized = await records.uploads.findFinalized(key)
    if (finalized === undefined) faults.push(`${key} has no row`)
    else if (await digestOf(store, key) !== finalized.sha256) faults.push(`${key} does not have the hash of its row`)
    else if (!promised.finalized.has(finalized.sha256!)) promised.finalized.add(finalized.sha256!) // finished, unanswered
  }
  for (const intent of await records.multiparts.listStale(Date.now() + 60_000, 100)) faults.push(`multipart intent ${intent.key} was left`)
  for (const folder of ['.tmp', '.multipart']) {
    const files = await readdir(join(dataDir, 'objects', folder), { recursive: true }).catch(() => [])
    faults.push(...files.map(file => `${folder}/${file} was left`))
  }
  return faults
}

const quiet = { debug() {}, info() {}, warn(fields: Record<string, unknown>) { console.error(fields) }, error(fields: Record<string, unknown>) { console.error(fields) } }

/** Everything that is there is older than this. */
function soon(): Date {
  return new Date(Date.now() + 1000)
}

export async function killRounds({ rounds, env, dataDir, progress }: {
  rounds: number, env: Record<string, string>, dataDir: string, progress?: (text: string) => void
}): Promise<KillReport> {
  const settings = { PORT: '0', DATA_DIR: dataDir, EXT_BUNDLES_RATELIMIT_MAX: '0', LOG_LEVEL: 'info', ...env }
  const promised: Promised = { staged: new Map(), finalized: new Set() }
  const report: KillReport = { rounds, uploads: 0, finalized: 0, killedDuring: 0, swept: 0, collected: 0, faults: [] }
  const config = readConfig(settings)
  const store = openObjectStore(config)
  const records = openRecordStore(config)
  try {
    for (let round = 1; round <= rounds && report.faults.length === 0; round++) {
      const service = await startService(settings)
      const fresh: Promised = { staged: new Map(), finalized: new Set() }
      const clients = Array.from({ length: CLIENTS }, () => client(service.url, fresh, report).catch((error: unknown) => error))
      await delay(randomInt(20, MAX_LIFE_MS))
      await kill(service)
      for (const error of await Promise.all(clients)) {
        // the connection breaks when the service dies; anything else was wrong before
        if (error instanceof TypeError || (error as { cause?: unknown }).cause !== undefined) report.killedDuring += 1
        else report.faults.push(String(error))
      }
      report.faults.push(...await brokenPromises(store, records, fresh))
      for (const [key, sha256] of fresh.staged) promised.staged.set(key, sha256)
      for (const sha256 of fresh.finalized) promised.finalized.add(sha256)
      progress?.(`round ${round}/${rounds}: ${report.uploads} uploads and ${promised.finalized.size} finalizes answered, ${report.faults.length} faults`)
    }
    report.faults.push(...await brokenPromises(store, records, promised))
    report.finalized = promised.finalized.size
    // twice: where a copy is a hard link, taking one name away makes the other as new as that moment
    for (let pass = 0; pass < 2; pass++) {
      await delay(1500) // stores keep whole seconds
      const { uploads, objects } = await sweep({ store, records, log: quiet }, soon(), AbortSignal.timeout(120_000))
      report.swept += uploads + objects
    }
    for await (const { removed } of collect({ store, records, before: soon(), remove: true })) report.collected += removed ? 1 : 0
    report.faults.push(...await leftovers(store, records, promised, dataDir))
    report.faults.push(...await brokenPromises(store, records, { staged: new Map(), finalized: promised.finalized }))
  } finally {
    await records.close()
    await store.close()
  }
  return report
}

/** The environment of the service over a MinIO of its own, and how to end that. */
export async function minioEnvironment(): Promise<{ env: Record<string, string>, stop(): Promise<void> }> {
  const minio = await startMinio()
  return {
    env: {
      OBJECT_STORE: 's3', S3_ENDPOINT: minio.endpoint, S3_BUCKET: minio.bucket,
      S3_ACCESS_KEY_ID: minio.accessKeyId, S3_SECRET_ACCESS_KEY: minio.secretAccessKey
    },
    stop: () => minio.stop()
  }
}

async function main(): Promise<void> {
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
