/** Rows and bytes of many owners, laid out beside a running service in its own stores, without asking it. */
import { createHash, randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { mediaPath } from '../../src/files/media-path.ts'
import { JOB_PRIORITY_MAX } from '../../src/limits.ts'
import { canonicalKey, stagingKey } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import type { FileAccess, JobRecord } from '../../src/records/jobs-port.ts'
import type { Owner, RecordStore } from '../../src/records/port.ts'
import { openObjectStore, openRecordStore } from '../../src/stores.ts'
import { modelRow } from './model-rows.ts'
import type { StartedApp } from './start-app.ts'

export const RESULT = 'output.json'
const RESULT_BYTES = Buffer.from('{"y":[1,2]}')
const EXECUTION = { provider: 'cpu', device: 'cpu', worker: 'w1', cached: false }

export interface Seeder {
  /** the service that they are laid out beside */
  app: StartedApp
  records: RecordStore
  store: ObjectStore
  /** Stores bytes at their canonical key. */
  object(bytes: Uint8Array, contentType?: string): Promise<Stored>
  model(name: string, task?: string): Promise<void>
  /** A completed one has one result, of these bytes. */
  job(owner: Owner, status: 'queued' | 'failed' | 'completed', bytes?: Uint8Array): Promise<JobRecord>
  /** A completed job whose result was promoted to this key; its id. */
  promoted(owner: Owner, target: string): Promise<string>
  /** The token of a one-time download of a result of this owner's. */
  download(owner: Owner): Promise<string>
  /** A file, which these users of the same account may read as well; its id. */
  file(owner: Owner, access: FileAccess, readers?: readonly string[], bytes?: Uint8Array): Promise<string>
  /** A complete file of this user's media library; its path. */
  media(owner: Owner): Promise<string>
  /** An API token of this user; its id. */
  token(owner: Owner): Promise<string>
  /** A staged object. */
  upload(owner: Owner): Promise<{ id: string, key: string }>
  /** A stored extension with one version; its id. */
  extension(owner: Owner): Promise<string>
}

/** `claim`: what holds the collector off until a row points there. */
interface Stored { sha256: string, key: string, size: number, contentType: string, claim: string }

/** Opens the stores of a service that has migrated them; closed with the test. */
export function seederOf(t: Test, app: StartedApp): Seeder {
  const records = openRecordStore(app.config)
  const store = openObjectStore(app.config)
  t.teardown(async () => {
    await records.close()
    await store.close()
  })

  async function object(bytes: Uint8Array, contentType = 'application/octet-stream'): Promise<Stored> {
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const stored = { sha256, key: canonicalKey(sha256, 'object'), size: bytes.byteLength, contentType }
    const claim = await records.objects.claim(stored)
    if (claim === undefined) throw new Error('the hash is being collected')
    if (await store.head(stored.key) === undefined) await store.put(stored.key, bytes, { size: bytes.byteLength })
    return { ...stored, claim }
  }

  /** Claims this job, and gives back those that were before it. */
  async function begin(id: string): Promise<string> {
    const others: JobRecord[] = []
    for (;;) {
      const claimed = await records.jobs.claim({ token: randomUUID(), worker: 'w1', leaseMs: 60_000 })
      if (claimed === undefined) throw new Error('the job does not wait')
      if (claimed.id !== id) {
        others.push(claimed)
        continue
      }
      for (const other of others) await records.jobs.release(other.id, other.attemptToken!)
      return claimed.attemptToken!
    }
  }

  async function job(owner: Owner, status: 'queued' | 'failed' | 'completed', bytes: Uint8Array = RESULT_BYTES): Promise<JobRecord> {
    const { name, version, sha256 } = modelRow()
    const made = await records.jobs.create({
      id: randomUUID(), owner, userId: owner.subject, model: { name, version, sha256 }, task: 'tensor', params: {}, inputs: [], cache: false,
      // before most that wait, so that few have to be given back
      priority: status === 'queued' ? 0 : JOB_PRIORITY_MAX, memoKey: randomUUID(), webhook: null, idempotency: null, reservation: null, queueMax: 1_000_000, stageTimings: {}
    })
    if (made.outcome !== 'created') throw new Error(made.outcome)
    const { id } = made.job
    if (status === 'queued') return made.job
    const token = await begin(id)
    if (status === 'failed') await records.jobs.fail(id, token, { code: 'invalid_input', message: 'as it should be' })
    else await records.jobs.complete(id, token, { results: [{ name: RESULT, filename: RESULT, ...await object(bytes, 'application/json') }], execution: EXECUTION })
    return (await records.jobs.get(id))!
  }

  return {
    app, records, store, object, job,
    async model(name, task = 'tensor') {
      const row = modelRow({ name, task, manifest: { name, version: '1', task } })
      const stored = { sha256: row.sha256, key: row.key, size: row.size }
      const claim = await records.objects.claim({ ...stored, contentType: 'application/octet-stream' })
      await store.put(row.key, Buffer.alloc(row.size), { size: row.size })
      await records.models.add({ ...stored, name, version: row.version, task: row.task, manifest: row.manifest, signature: row.signature, claim: claim ?? null })
    },
    async promoted(owner, target) {
      const { id, results: [result] } = await job(owner, 'completed')
      const promotion = { jobId: id, source: RESULT, target, size: result!.size, sha256: result!.sha256 }
      await records.promotions.begin(promotion, { token: id, leaseMs: 60_000 }, 0)
      await records.promotions.record(promotion, id)
      return id
    },
    async download(owner) {
      const { results } = await job(owner, 'completed')
      const token = randomUUID()
      await records.jobs.createDownload({ tokenHash: createHash('sha256').update(token).digest('hex'), fileId: results[0]!.fileId, expiresAt: Date.now() + 60_000 })
      return token
    },
    async file(owner, access, readers = [], bytes) {
      const id = randomUUID()
      const made = await records.files.add({ id, filename: 'file.bin', ...await object(bytes ?? Buffer.from(id)), access, owner, stagedUploadId: null })
      if (made === 'reclaim') throw new Error('the hash is being collected')
      for (const subject of readers) await records.files.grant(id, { subject, account: owner.account })
      return id
    },
    async media(owner) {
      const id = randomUUID()
      const file = { filename: 'file.bin', ...await object(Buffer.from(id)), access: 'restricted', owner, stagedUploadId: null } as const
      await records.media.begin({ id, owner, filename: file.filename, contentType: file.contentType, size: null, uploadId: null, expiresAt: Date.now() + 60_000 })
      const made = await records.media.complete(id, file)
      if (made === 'gone' || made === 'reclaim') throw new Error(made)
      return mediaPath(owner, made.mediaName)
    },
    async token({ subject, account }) {
      const { id } = await records.tokens.create({ id: randomUUID(), kind: 'api', account: account!, subject, scopes: [], expiresAt: null, tokenHash: randomUUID() })
      return id
    },
    async upload(owner) {
      const id = randomUUID()
      const key = stagingKey(id, 'object')
      const bytes = Buffer.from(id)
      const { etag } = await store.put(key, bytes, { size: bytes.length })
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      await records.uploads.create({ id, kind: 'object', stagingKey: key, filename: 'file.bin', size: bytes.length, declaredSha256: null, owner })
      await records.uploads.stage(id, { sha256, etag, size: bytes.length })
      return { id, key }
    },
    async extension(owner) {
      const { id } = await this.upload(owner)
      const { sha256, key, size, contentType, claim } = await object(Buffer.from(id))
      const done = await records.uploads.finalize({
        uploadId: id, sha256, canonicalKey: key, size, contentType, claim,
        version: { publisher: 'acme', name: `tools-${id}`, version: '1.0.0', contentHash: sha256, canonicalKey: key, manifest: {}, signature: {} },
        result: ({ extension }) => extension!.id
      })
      if (done.outcome !== 'finalized') throw new Error(done.outcome)
      return done.result as string
    }
  }
}
