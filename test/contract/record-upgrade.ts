/** A database of the first schema, brought up to date: nothing of it is lost, and all that is newer works over it. */
import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { RecordStore } from '../../src/records/port.ts'
import { OLD } from '../support/first-schema.ts'

/** @param store over a database that firstSchema() made */
export async function recordUpgradeContract(t: Test, store: RecordStore): Promise<void> {
  await Promise.all([store.migrate(), store.migrate()])
  await store.migrate()
  t.match(await store.uploads.get(OLD.upload), { status: 'finalized', sha256: OLD.sha256, result: { ok: true }, owner: OLD.owner })
  t.match(await store.uploads.get(OLD.running), { status: 'receiving', received: 2 })
  t.match(await store.extensions.get(OLD.extension), { name: 'tool', latestVersion: '1.0.0' })
  t.equal((await store.multiparts.listStale(2000, 10)).length, 1)
  const { sha256, key, size } = OLD
  const object = { sha256, key, size, contentType: 'text/plain' }
  t.strictSame(await store.files.findOwned({ sha256 }, OLD.owner), object)
  const id = randomUUID()
  const made = await store.jobs.create({
    id, owner: OLD.owner, userId: null, model: { name: 'm', version: '1', sha256: 'm' }, task: 't', params: {}, priority: 0, cache: true, memoKey: 'k', webhook: null,
    idempotency: null, reservation: null, queueMax: 10, stageTimings: {}, inputs: [{ ...object, name: 'input', position: 0, fileId: null, claim: null, stagedUploadId: null }]
  })
  t.equal(made.outcome, 'created')
  const job = await store.jobs.claim({ token: 't', worker: 'w', leaseMs: 1000 })
  t.match(job, { id, inputs: [{ sha256 }] })
  t.equal(await store.jobs.complete(id, 't', { results: [{ ...object, name: 'r', filename: 'r', claim: null }], execution: { provider: 'p', device: 'd', worker: 'w', cached: false } }), 'completed')
  t.equal(await store.models.add({ ...object, name: 'm', version: '1', task: 't', manifest: {}, signature: {}, claim: null }), 'added')
  t.equal(await store.objects.beginCollect(sha256, Date.now() + 1000), undefined)
  const token = { id: randomUUID(), kind: 'api' as const, account: 'a', subject: 's', scopes: [], expiresAt: null, tokenHash: 'h' }
  await store.tokens.create(token)
  t.match(await store.tokens.find('h'), { id: token.id })
}
