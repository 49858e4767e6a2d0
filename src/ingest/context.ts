/** What every step of ingest works with. Made once, by the composition root. */
import type { LimitFunction } from 'p-limit'
import type { Config } from '../config.ts'
import type { InferencePool } from '../inference/port.ts'
import type { ObjectStore } from '../objects/port.ts'
import type { StoreReadiness } from '../objects/readiness.ts'
import type { RecordStore } from '../records/port.ts'
import type { TrustBundle } from './bundle/signature.ts'
import type { IngestObserver } from './observer.ts'
import type { Profiles } from './profiles.ts'
import type { RunningUploads } from './running.ts'
import type { Slots } from './slots.ts'

/** The part of a logger that ingest uses; pino has it. */
export interface Log {
  debug(fields: Record<string, unknown>, message?: string): void
  info(fields: Record<string, unknown>, message?: string): void
  warn(fields: Record<string, unknown>, message?: string): void
  error(fields: Record<string, unknown>, message?: string): void
}

export interface IngestContext {
  config: Config
  store: ObjectStore
  readiness: StoreReadiness
  records: RecordStore
  profiles: Profiles
  slots: Slots
  running: RunningUploads
  /** Memory that bodies of unknown length share, one after the other (objects/put-unknown-length.ts). */
  spareParts: Buffer[]
  /** Bundles read for their manifest at once: each may hold a zstd window. Others wait. */
  manifestReaders: LimitFunction
  /** undefined: signatures are not required */
  trust: TrustBundle | undefined
  /** Loads a staged model in a worker. @throws InferenceFailed */
  checkModel: InferencePool['checkModel']
  /** undefined: nobody counts */
  observer?: IngestObserver | undefined
}
