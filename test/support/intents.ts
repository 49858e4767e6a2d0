/** Records of multipart uploads in memory, which note the order of what is done with them. */
import { randomUUID } from 'node:crypto'
import type { MultipartIntent, MultipartIntents } from '../../src/records/port.ts'

export interface NotedIntents extends MultipartIntents {
  /** What is recorded now. */
  readonly open: Map<string, MultipartIntent>
  /** `record`, `setUploadId`, `remove`, in the order in which they came; not `touch`, which comes with time. */
  readonly log: string[]
}

export function notedIntents(): NotedIntents {
  const open = new Map<string, MultipartIntent>()
  const log: string[] = []
  return {
    open, log,
    async record(key) {
      const id = randomUUID()
      log.push('record')
      open.set(id, { id, key, uploadId: null, touchedAt: Date.now() })
      return { id }
    },
    async setUploadId(id, uploadId) {
      log.push('setUploadId')
      open.set(id, { ...open.get(id)!, uploadId })
    },
    async touch(id) {
      const intent = open.get(id)
      if (intent) open.set(id, { ...intent, touchedAt: Date.now() })
    },
    async remove(id) {
      log.push('remove')
      open.delete(id)
    },
    async listStale(before, limit) {
      return [...open.values()].filter(({ touchedAt }) => touchedAt < before).slice(0, limit)
    }
  }
}
