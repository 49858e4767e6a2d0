/** What the parts of the jobs domain work with. Made once, by the composition root. */
import type { Config } from '../config.ts'
import type { InferencePool } from '../inference/port.ts'
import type { IngestContext, Log } from '../ingest/context.ts'
import type { ObjectStore } from '../objects/port.ts'
import type { StoreReadiness } from '../objects/readiness.ts'
import type { RecordStore } from '../records/port.ts'
import type { JobObserver } from './observer.ts'
import type { Webhooks } from './webhooks.ts'

export interface JobsContext {
  /** name of this process among those that share the records */
  node: string
  config: Config
  store: ObjectStore
  readiness: StoreReadiness
  records: RecordStore
  /** of this process; only asked for its state where it has not the role of a worker */
  pool: InferencePool
  ingest: IngestContext
  /** closed after the runner */
  webhooks: Webhooks
  log: Log
  /** undefined: nobody counts */
  observer?: JobObserver | undefined
}
