/** Rows of jobs for tests of whoever shows them. */
import { randomUUID } from 'node:crypto'
import type { JobEvent, JobRecord } from '../../src/records/jobs-port.ts'

const sha256 = 'a'.repeat(64)

export function jobRow(changes: Partial<JobRecord> = {}): JobRecord {
  return {
    id: randomUUID(), run: 1, owner: { subject: 'dev', account: 'local', clientId: null }, userId: null,
    model: { name: 'upscale-2x', version: '1', sha256 }, task: 'image-to-image', params: {},
    status: 'queued', stage: null, progress: null, priority: 0, attempt: 0, attemptToken: null, worker: null, cancelRequested: false,
    inputs: [{ name: 'input', position: 0, fileId: null, sha256, key: `sha256/${sha256}/object`, size: 5, contentType: 'image/png' }],
    results: [], promotions: [], failure: null, stageTimings: {}, execution: null, cache: true, memoKey: 'memo', webhook: null,
    lastSeq: 1, createdAt: 1_700_000_000_000, updatedAt: 1_700_000_000_000, startedAt: null, completedAt: null,
    ...changes
  }
}

export function completedRow(changes: Partial<JobRecord> = {}): JobRecord {
  return jobRow({
    status: 'completed', stage: 'persist', progress: 100, attempt: 1, lastSeq: 3, startedAt: 1_700_000_001_000, completedAt: 1_700_000_002_000,
    results: [{ name: 'image.png', fileId: randomUUID(), sha256, key: `sha256/${sha256}/object`, size: 9, contentType: 'image/png' }],
    stageTimings: { inference: { startedAt: 1_700_000_001_000, finishedAt: 1_700_000_001_900 } },
    execution: { provider: 'cpu', device: 'cpu', worker: 'w1', cached: false },
    ...changes
  })
}

export function eventRow(seq: number, event: JobEvent['event'], data: Record<string, unknown> = {}): JobEvent {
  return { seq, event, data, createdAt: 1_700_000_000_000 + seq }
}
