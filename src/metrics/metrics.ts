/**
 * What is counted while things happen, in Prometheus' terms. The parts of the service know nothing of it: each tells an
 * observer of its own, and these are the ones that are given to them. What is only looked at when somebody asks (the queue,
 * slots, dependencies) is in gauges.ts.
 *
 * Labels are few: patterns of routes, kinds, codes, and names of models, which administrators give. Never an id.
 */
import { collectDefaultMetrics, Counter, exponentialBuckets, Histogram, Registry } from 'prom-client'
import type { HttpObserver } from '../http/count-requests.ts'
import type { IngestObserver } from '../ingest/observer.ts'
import type { JobObserver } from '../jobs/observer.ts'
import type { StoreObserver } from '../objects/metered.ts'

export interface Metrics {
  readonly registry: Registry
  readonly http: HttpObserver
  readonly ingest: IngestObserver
  readonly jobs: JobObserver
  readonly store: StoreObserver
  workerRestarted(reason: string): void
}

const MIB = 1024 * 1024
/** From 5 ms to 82 s: requests to the store, waiting for a worker. */
const BRIEF_SECONDS = exponentialBuckets(0.005, 4, 8)
/** From 50 ms to 55 min: uploads, runs, waiting in a queue. */
const LONG_SECONDS = exponentialBuckets(0.05, 4, 9)
/** From 64 KiB to 16 GiB. */
const SIZES_BYTES = exponentialBuckets(MIB / 16, 8, 7)

export function createMetrics(): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  const requests = new Counter({ name: 'penstock_http_requests_total', help: 'Requests that are over, by pattern of route; status none: the client went before an answer began', labelNames: ['route', 'method', 'status'], registers })
  const uploads = new Counter({ name: 'penstock_uploads_total', help: 'Uploads that ended: succeeded, aborted, or the slug of the failure', labelNames: ['kind', 'outcome'], registers })
  const uploadBytes = new Counter({ name: 'penstock_upload_bytes_total', help: 'Bytes of uploads that arrived, also of those that failed', labelNames: ['kind'], registers })
  const uploadSeconds = new Histogram({ name: 'penstock_upload_duration_seconds', help: 'Duration of uploads that succeeded', buckets: LONG_SECONDS, registers })
  const uploadSizes = new Histogram({ name: 'penstock_upload_size_bytes', help: 'Size of uploads that succeeded', buckets: SIZES_BYTES, registers })
  const finalized = new Counter({ name: 'penstock_finalize_total', help: 'Calls of finalize: created, deduplicated, refused (4xx) or failed', labelNames: ['kind', 'result'], registers })
  const jobs = new Counter({ name: 'penstock_jobs_total', help: 'Jobs that this process brought to their end', labelNames: ['model', 'status'], registers })
  const queueSeconds = new Histogram({ name: 'penstock_job_queue_seconds', help: 'From when a job was made until it was claimed for the first time', buckets: LONG_SECONDS, registers })
  const dispatchSeconds = new Histogram({ name: 'penstock_job_dispatch_seconds', help: 'From when a job was made until its first worker began', buckets: BRIEF_SECONDS, registers })
  const runSeconds = new Histogram({ name: 'penstock_job_run_seconds', help: 'How long a worker was at one attempt at a job', labelNames: ['model'], buckets: LONG_SECONDS, registers })
  const restarts = new Counter({ name: 'penstock_worker_restarts_total', help: 'Workers that ended and were followed by another', labelNames: ['reason'], registers })
  const storeSeconds = new Histogram({ name: 'penstock_store_operation_seconds', help: 'Requests of this process to the object store, without those of its workers', labelNames: ['operation', 'outcome'], buckets: BRIEF_SECONDS, registers })

  return {
    registry,
    http: labels => requests.inc(labels),
    ingest: {
      uploadEnded({ kind, outcome, bytes, seconds }) {
        uploads.inc({ kind, outcome })
        uploadBytes.inc({ kind }, bytes)
        if (outcome !== 'succeeded') return
        uploadSeconds.observe(seconds)
        uploadSizes.observe(bytes)
      },
      finalizeEnded: labels => finalized.inc(labels)
    },
    jobs: {
      claimed: ({ waitedSeconds }) => queueSeconds.observe(waitedSeconds),
      started: ({ waitedSeconds }) => dispatchSeconds.observe(waitedSeconds),
      ran: ({ model, seconds }) => runSeconds.observe({ model }, seconds),
      ended: labels => jobs.inc(labels)
    },
    store: ({ operation, outcome, seconds }) => storeSeconds.observe({ operation, outcome }, seconds),
    workerRestarted: reason => restarts.inc({ reason })
  }
}
