/** What the services of files work with. Made once, by the composition root. */
import type { IngestContext, Log } from '../ingest/context.ts'
import type { PermissionCallback } from './permission-callback.ts'

export interface FilesContext {
  ingest: IngestContext
  log: Log
  /** undefined: nobody is asked */
  callback?: PermissionCallback | undefined
  /** epoch milliseconds; for tests */
  now?: () => number
}
