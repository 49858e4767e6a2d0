/**
 * The sweeper removes what nobody will come back for, older than STAGING_TTL_HOURS:
 *   uploads      neither finalized nor ended: the row first, then the bytes
 *   multiparts   recorded before they are made, so one that was never finished is found by its exact key. One whose maker
 *                is at work is left alone: it touches its record, and that of the upload it belongs to
 *   objects      in staging that no living upload owns (a delete that failed, a node that died), and rests of the probe
 *   temporaries  unfinished writes of dead processes on disk
 *   claims       of finalizes that died before they recorded anything
 *   collections  that were cut off: until they are finished, nobody can finalize their hash
 *   rows         of uploads that ended
 *
 * The steps do not depend on each other, nor one item of a step on another: what fails is logged and counted, and the rest
 * goes on. Every step can run on several nodes at once, and again after being cut off. Each ends, because nothing that is
 * touched from now on is as old as what it looks for.
 */
import pLimit from 'p-limit'
import { SWEEP_BATCH, SWEEP_CONCURRENCY, SWEEP_FAILURES_LOGGED_MAX } from '../limits.ts'
import { isProbeKey, parseStagingKey, PROBE_PREFIX, STAGING_PREFIX } from '../objects/keys.ts'
import { sweepsTemporaries, type ObjectStore } from '../objects/port.ts'
import type { MultipartIntent, RecordStore, UploadRecord } from '../records/port.ts'
import { resumeCollection } from './collect.ts'
import type { Log } from './context.ts'

export interface SweepContext { store: ObjectStore, records: RecordStore, log: Log }

interface SweepRun extends SweepContext {
  before: Date
  signal: AbortSignal
  /** Notes that one item, or a whole step, could not be done. */
  failed(item: string | undefined, error: unknown): void
}

const steps = {
  uploads: sweepUploads,
  multiparts: sweepMultiparts,
  objects: sweepObjects,
  temporaries: async ({ store, before }: SweepRun) => sweepsTemporaries(store) ? await store.sweepTemporaries(before) : 0,
  claims: ({ records, before, signal }: SweepRun) => untilShort(signal, () => records.objects.pruneClaims(before.getTime(), SWEEP_BATCH)),
  collections: resumeCollections,
  rows: ({ records, before, signal }: SweepRun) => untilShort(signal, () => records.uploads.prune(before.getTime(), SWEEP_BATCH))
} satisfies Record<string, (run: SweepRun) => Promise<number>>

/** How many were removed of each, and how many could not be. */
export type SweepReport = Record<keyof typeof steps | 'failed', number>

/** Never rejects. What the signal cuts off is no failure. */
export async function sweep(context: SweepContext, before: Date, signal: AbortSignal): Promise<SweepReport> {
  const report: SweepReport = { uploads: 0, multiparts: 0, objects: 0, temporaries: 0, claims: 0, collections: 0, rows: 0, failed: 0 }
  for (const [name, step] of Object.entries(steps)) {
    const failed = (item: string | undefined, error: unknown): void => {
      if (signal.aborted) return
      report.failed += 1
      if (report.failed > SWEEP_FAILURES_LOGGED_MAX) return
      context.log.warn({ action: 'ingest.sweep.failed', step: name, ...(item !== undefined && { item }), err: error })
    }
    if (signal.aborted) break
    report[name as keyof typeof steps] = await step({ ...context, before, signal, failed }).catch(error => {
      failed(undefined, error)
      return 0
    })
  }
  return report
}

async function sweepUploads(run: SweepRun): Promise<number> {
  const { store, records, before, signal } = run
  return await eachOfAll(run, after => records.uploads.listStale(before.getTime(), SWEEP_BATCH, after), ({ stagingKey }: UploadRecord) => stagingKey, async upload => {
    await records.uploads.end(upload.id, 'expired')
    await store.delete(upload.stagingKey, signal)
    return true
  })
}

async function sweepMultiparts(run: SweepRun): Promise<number> {
  const { records, before } = run
  return await eachOfAll(run, after => records.multiparts.listStale(before.getTime(), SWEEP_BATCH, after), ({ key }: MultipartIntent) => key, async intent => {
    if ((await uploadOf(records, intent.key))?.status === 'receiving') return false
    return await abortMultipart(run, intent)
  })
}

/**
 * Without an upload id the node died between the record and the answer of the store: then the store is asked for the key.
 * What it names that is too young may be another's or, where clocks differ, this one: the record stays until that is clear.
 */
async function abortMultipart({ store, records, before, signal }: SweepRun, { id, key, uploadId }: MultipartIntent): Promise<boolean> {
  const known = uploadId === null ? await store.listMultiparts(key, signal) : [{ uploadId, initiated: new Date(0) }]
  const old = known.filter(({ initiated }) => initiated < before)
  for (const each of old) await store.abortMultipart({ key, uploadId: each.uploadId }, signal)
  if (old.length < known.length) return false
  await records.multiparts.remove(id)
  return true
}

async function sweepObjects(run: SweepRun): Promise<number> {
  return await sweepPrefix(run, STAGING_PREFIX, async key => parseStagingKey(key) !== undefined && !isOpen(await uploadOf(run.records, key)))
    + await sweepPrefix(run, PROBE_PREFIX, async key => isProbeKey(key))
}

async function sweepPrefix({ store, before, signal, failed }: SweepRun, prefix: string, isOurs: (key: string) => Promise<boolean>): Promise<number> {
  let swept = 0
  for await (const { key, lastModified } of store.list(prefix, { signal })) {
    try {
      if (lastModified >= before || !await isOurs(key)) continue
      await store.delete(key, signal)
      swept += 1
    } catch (error) {
      failed(key, error)
    }
  }
  return swept
}

async function uploadOf(records: RecordStore, key: string): Promise<UploadRecord | undefined> {
  const staging = parseStagingKey(key)
  return staging && await records.uploads.get(staging.uploadId)
}

function isOpen(upload: UploadRecord | undefined): boolean {
  return upload?.status === 'receiving' || upload?.status === 'staged'
}

async function resumeCollections(run: SweepRun): Promise<number> {
  return await forEach(run, await run.records.objects.listCutOff(SWEEP_BATCH), sha256 => sha256, async sha256 =>
    await resumeCollection(run, sha256) !== undefined)
}

/** All items of a list that comes in batches: those that fail are passed, and met again by the next sweep. */
async function eachOfAll<T>(run: SweepRun, list: (after: T | undefined) => Promise<T[]>, nameOf: (item: T) => string, work: (item: T) => Promise<boolean>): Promise<number> {
  let done = 0
  for (let after: T | undefined; ;) {
    const batch = await list(after)
    done += await forEach(run, batch, nameOf, work)
    after = batch.at(-1)
    if (batch.length < SWEEP_BATCH || run.signal.aborted) return done
  }
}

/** Returns for how many the work said that it was done. */
async function forEach<T>({ signal, failed }: SweepRun, items: readonly T[], nameOf: (item: T) => string, work: (item: T) => Promise<boolean>): Promise<number> {
  const done = await pLimit(SWEEP_CONCURRENCY).map(items, async item => {
    try {
      return !signal.aborted && await work(item)
    } catch (error) {
      failed(nameOf(item), error)
      return false
    }
  })
  return done.filter(Boolean).length
}

async function untilShort(signal: AbortSignal, removeBatch: () => Promise<number>): Promise<number> {
  let removed = 0
  for (;;) {
    const batch = await removeBatch()
    removed += batch
    if (batch < SWEEP_BATCH || signal.aborted) return removed
  }
}

export interface Sweeper { stop(): Promise<void> }

export interface SweeperOptions extends SweepContext { ttlMs: number, intervalMs: number }

/** Sweeps at once and then every interval, never two at a time. */
export function startSweeper({ ttlMs, intervalMs, ...context }: SweeperOptions): Sweeper {
  const stop = new AbortController()
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    const report = await sweep(context, new Date(Date.now() - ttlMs), stop.signal)
    if (Object.values(report).some(count => count > 0)) context.log.info({ action: 'ingest.sweep.done', ...report })
  }

  const tick = (): void => { running ??= run().finally(() => { running = undefined }) }
  const timer = setInterval(tick, intervalMs)
  timer.unref()
  tick()
  return {
    async stop() {
      clearInterval(timer)
      stop.abort()
      await running
    }
  }
}
