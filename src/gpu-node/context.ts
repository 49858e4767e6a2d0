/** What the parts of a GPU node work with. Made once, by the composition root. */
import type { Config } from '../config.ts'
import type { InferencePool } from '../inference/port.ts'
import type { IngestContext, Log } from '../ingest/context.ts'
import type { NodeResults } from './results.ts'

export interface NodeContext {
  config: Config
  /** of this process */
  pool: Pick<InferencePool, 'run'>
  /** Stores and records of this node alone, or of the service that it is part of. */
  ingest: IngestContext
  results: NodeResults
  log: Log
}
