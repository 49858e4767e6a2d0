/** The job routes on a real socket, over scripted jobs and a store in a folder. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { EventStreamOptions } from '../../src/http/event-stream.ts'
import { jobRoutes } from '../../src/http/routes/jobs.ts'
import { legacyRoutes } from '../../src/http/routes/legacy.ts'
import { videoRoutes } from '../../src/http/routes/video.ts'
import { requireJobReader, requireJobWriter, requireNobody } from '../../src/identity/guards.ts'
import type { Principal } from '../../src/identity/principal.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import { fsObjectStore } from '../../src/objects/fs.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import type { FileRecord } from '../../src/records/jobs-port.ts'
import { scriptedJobs, type ScriptedJobs } from './scripted-jobs.ts'
import { startEdge, type Edge } from './start-edge.ts'

export interface JobsEdge extends Edge {
  jobs: ScriptedJobs
  store: ObjectStore
  call(method: string, path: string, init?: { body?: unknown, headers?: Record<string, string> }): Promise<Response>
  /** Stores bytes and gives the row of a file that points at them. */
  file(bytes: Uint8Array, changes?: Partial<FileRecord>): Promise<FileRecord>
}

export interface JobsEdgeOptions {
  env?: Record<string, string>
  events?: EventStreamOptions
  /** who calls, where the edge cannot know it yet */
  as?: Principal
  /** stands between the routes and the store */
  over?(store: ObjectStore): ObjectStore
}

export async function startJobs(t: Test, { env = {}, events, as, over = store => store }: JobsEdgeOptions = {}): Promise<JobsEdge> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-jobs-'))
  const store = fsObjectStore({ root: folder })
  await store.createBucket()
  const jobs = scriptedJobs()
  const edge = await startEdge(t, {
    env: { REFUSED_RATE_LIMIT_MAX: '0', API_V1_RATE_LIMIT_MAX: '0', ...env },
    routes: [async (app, { config }) => {
      if (as !== undefined) app.addHook('onRequest', async request => { request.principal = as })
      const options = { jobs, config, store: over(store), ...(events && { events }) }
      await app.register(jobRoutes, { ...options, guards: { read: requireJobReader(config), write: requireJobWriter(config) } })
      await app.register(videoRoutes, { ...options, guards: { read: requireJobReader(config), write: requireJobWriter(config) } })
      if (config.LEGACY_ROUTES !== 'false') await app.register(legacyRoutes, { ...options, guard: requireNobody(config) })
    }]
  })
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return {
    ...edge, jobs, store,
    call: (method, path, { body, headers = {} } = {}) => fetch(edge.url + path, {
      method, headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers }, ...(body !== undefined && { body: JSON.stringify(body) })
    }),
    async file(bytes, changes = {}) {
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      const key = canonicalKey(sha256, 'object')
      await store.put(key, bytes, { size: bytes.byteLength })
      return {
        id: randomUUID(), filename: 'image.png', contentType: 'image/png', size: bytes.byteLength, sha256, key, access: 'account',
        owner: { subject: 'dev', account: 'local', clientId: null }, createdAt: 1_700_000_000_500, ...changes
      }
    }
  }
}
