/**
 * A JobService whose jobs, events and files a test lays out, for tests of the edge alone. It really takes what drafts receive, byte
 * by byte, as the domain does, and notes every call.
 */
import { createHash } from 'node:crypto'
import { PenstockError } from '../../src/errors.ts'
import type { CreateOptions, JobDraft, JobInputRequest, JobRequest, JobService } from '../../src/jobs/port.ts'
import type { Principal } from '../../src/identity/principal.ts'
import type { FileRecord, JobEvent, JobRecord } from '../../src/records/jobs-port.ts'
import { jobRow } from './job-rows.ts'

export interface Part { name: string, filename: string, contentType: string, bytes: number, sha256: string }

export interface ScriptedDraft {
  principal: Principal
  userId: string | undefined
  /** what was received whole */
  parts: Part[]
  /** why a part was not: its error */
  broken: unknown[]
  /** bytes of the part under way */
  arriving: number
  committed: JobRequest | undefined
  options: CreateOptions | undefined
  discarded: number
}

export interface ScriptedJobs extends JobService {
  jobs: Map<string, JobRecord>
  events: Map<string, JobEvent[]>
  files: Map<string, FileRecord>
  downloads: Map<string, FileRecord>
  drafts: ScriptedDraft[]
  /** name and arguments behind the principal */
  calls: { name: string, principal: Principal | undefined, args: unknown[] }[]
  /** Thrown by the next call of a method. */
  fail: Map<string, Error>
  /** When it resolves, a waiting watcher looks again. */
  tell(): void
  /** Watchers that have not ended. */
  watching: number
  /** Called within receive, before its first byte is read. */
  onReceive?: () => Promise<void>
}

export function scriptedJobs(): ScriptedJobs {
  let changed = Promise.withResolvers<void>()
  const reach = (principal: Principal, id: string): JobRecord => {
    const job = self.jobs.get(id)
    if (job === undefined || (principal.kind !== 'admin' && job.owner.subject !== principal.subject)) throw new PenstockError('JOB_NOT_FOUND')
    return job
  }
  const note = (name: string, principal: Principal | undefined, ...args: unknown[]): void => {
    self.calls.push({ name, principal, args })
    const error = self.fail.get(name)
    self.fail.delete(name)
    if (error !== undefined) throw error
  }
  const add = (changes: Partial<JobRecord>): JobRecord => {
    const job = jobRow(changes)
    self.jobs.set(job.id, job)
    return job
  }

  const self: ScriptedJobs = {
    jobs: new Map(), events: new Map(), files: new Map(), downloads: new Map(), drafts: [], calls: [], fail: new Map(), watching: 0,
    tell() {
      changed.resolve()
      changed = Promise.withResolvers()
    },
    async create(principal, request: JobRequest & { input: JobInputRequest }, options) {
      note('create', principal, request, options)
      return { job: add({ userId: request.user_id ?? null }), repeated: options?.idempotencyKey === 'again' }
    },
    async createInference() {
      throw new Error('the routes of jobs make none')
    },
    async begin(principal, userId, options) {
      note('begin', principal, userId)
      const draft: ScriptedDraft = { principal, userId, parts: [], broken: [], arriving: 0, committed: undefined, options, discarded: 0 }
      self.drafts.push(draft)
      return draftOf(draft, { receiving: async () => await self.onReceive?.(), commit: () => {
        note('commit', principal)
        return add({ userId: userId ?? null })
      } })
    },
    async get(principal, id) {
      note('get', principal, id)
      return reach(principal, id)
    },
    async list(principal, query) {
      note('list', principal, query)
      const { after } = query
      const all = [...self.jobs.values()].toSorted((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1))
      const from = after === undefined ? 0 : all.findIndex(job => job.id === after.id) + 1
      return all.slice(from, from + query.limit)
    },
    async watch(principal, id, after, signal) {
      note('watch', principal, id, after)
      reach(principal, id)
      return watch(id, after, signal)
    },
    async cancel(principal, id) {
      note('cancel', principal, id)
      return reach(principal, id)
    },
    async retry(principal, id) {
      note('retry', principal, id)
      return reach(principal, id)
    },
    async remove(principal, id) {
      note('remove', principal, id)
      reach(principal, id)
      self.jobs.delete(id)
    },
    async result(principal, id, name) {
      note('result', principal, id, name)
      reach(principal, id)
      const file = self.files.get(name)
      if (file === undefined) throw new PenstockError('RESULT_NOT_FOUND')
      return file
    },
    async downloadToken(principal, id, request) {
      note('downloadToken', principal, id, request)
      reach(principal, id)
      return { token: 'a-token-that-nobody-guesses', expiresAt: 1_700_000_000_000 }
    },
    async takeDownload(token) {
      note('takeDownload', undefined, token)
      const file = self.downloads.get(token)
      if (file === undefined) throw new PenstockError('FILE_NOT_FOUND')
      self.downloads.delete(token)
      return file
    },
    async queue() {
      note('queue', undefined)
      return {
        waiting: 2, running: 1, completed: 5, failed: 1, oldestCreatedAt: Date.now() - 1000, perModel: [{ model: 'upscale-2x', waiting: 2, running: 1 }],
        workers: [{ node: 'n1', id: 'w1', state: 'busy', provider: 'cpu', device: 'cpu', runs: 3 }]
      }
    }
  }

  async function* watch(id: string, after: number, signal: AbortSignal): AsyncGenerator<JobEvent> {
    self.watching += 1
    try {
      for (let seen = after; !signal.aborted;) {
        const more = changed.promise
        for (const event of self.events.get(id)?.filter(each => each.seq > seen) ?? []) {
          yield event
          seen = event.seq
          if (event.event !== 'generation_started' && event.event !== 'generation_progress') return
        }
        const aborted = Promise.withResolvers<void>()
        signal.addEventListener('abort', () => aborted.resolve(), { once: true })
        await Promise.race([more, aborted.promise])
      }
    } finally {
      self.watching -= 1
    }
  }
  return self
}

function draftOf(draft: ScriptedDraft, { receiving, commit }: { receiving(): Promise<void>, commit(): JobRecord }): JobDraft {
  return {
    async receive({ name, filename, contentType, body, maxBytes }) {
      await receiving()
      const hash = createHash('sha256')
      draft.arriving = 0
      try {
        for await (const chunk of body) {
          draft.arriving += (chunk as Buffer).length
          if (draft.arriving > maxBytes) throw new PenstockError('PAYLOAD_TOO_LARGE', { message: `${name} is over the limit`, details: { field: name, limit_bytes: maxBytes } })
          hash.update(chunk as Buffer)
        }
      } catch (error) {
        draft.broken.push(error)
        throw error
      }
      draft.parts.push({ name, filename, contentType, bytes: draft.arriving, sha256: hash.digest('hex') })
    },
    async commit(request) {
      const job = commit()
      draft.committed = request
      return { job, repeated: false }
    },
    async discard() {
      draft.discarded += 1
    }
  }
}
