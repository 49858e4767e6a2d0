/**
 * Who may do what: every route of the running service, with every kind of caller, on things of one's own, of the same
 * account, of another, and on things that are not there. A route without a row fails, and so does a row without a route.
 *
 * A cell is the status of the answer. `=` behind it: the very answer that the same caller gets for a thing that is not
 * there, found out with the same work, so that nobody learns what there is. Where one cell stands for the whole row, it
 * holds for all. HEAD, where a route has it, is asked wherever GET is.
 */
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { mediaPath } from '../../src/files/media-path.ts'
import type { FileAccess } from '../../src/records/jobs-port.ts'
import type { Owner } from '../../src/records/port.ts'
import { CALLERS, startCallers, type Caller, type CallerName } from '../support/callers.ts'
import { BOUNDARY, file, form, type FormPart } from '../support/multipart.ts'
import { preparing } from '../support/preparing.ts'
import { routesOf } from '../support/route-table.ts'
import { RESULT, type Seeder } from '../support/seed.ts'
import { statementsOf } from '../support/statements.ts'

/** Whose the things are that rows are about. */
const OWNERS = {
  "alice's": { subject: 'alice', account: 'acme', clientId: 'app' },
  "app's": { subject: null, account: 'acme', clientId: 'app' },
  "carol's": { subject: 'carol', account: 'umbrella', clientId: 'app' },
  "dev's": { subject: 'dev', account: 'local', clientId: null }
} as const satisfies Record<string, Owner>

type OwnerName = keyof typeof OWNERS
/** What behind an owner says how a file is shared; granted: restricted, and bob may read it. */
type Whose = OwnerName | `${OwnerName} ${'public' | 'restricted' | 'granted' | 'signed'}` | "nobody's" | '-'

const MATRIX = `
                                                                    none bad  old  ten  adm  hdr  root svc  bare ali  bob  car  key  ses  gst  pub  node dev
GET    /livez                                                       200
GET    /readyz                                                      200
GET    /health                                                      200
GET    /metrics                                                     200
GET    /openapi.json                                                200
GET    /docs                                                        200
HEAD   /docs/                                                       200
GET    /docs/                                                       200
GET    /docs/json                                                   200
GET    /docs/yaml                                                   200
GET    /docs/static/index.html                                      302
GET    /docs/static/swagger-initializer.js                          200
GET    /docs/static/*                                               200

POST   /upload-proxy                                                403  401  401  403  200  200  200  200  403  200  200  200  200  403  403  403  403  403
POST   /api/ext-bundles/upload-proxy                                403  401  401  403  200  200  200  200  403  200  200  200  200  403  403  403  403  403
POST   /finalize                                 alice's            403  401  401  403  200  200  200  400= 403  200  400= 400= 400= 403  403  403  403  403
POST   /finalize                                 nobody's           403  401  401  403  400  400  400  400  403  400  400  400  400  403  403  403  403  403
POST   /api/ext-bundles/finalize                 alice's            403  401  401  403  200  200  200  400= 403  200  400= 400= 400= 403  403  403  403  403
POST   /abort                                    alice's            403  401  401  403  200  200  200  200= 403  200  200= 200= 200= 403  403  403  403  403
POST   /api/ext-bundles/abort                    alice's            403  401  401  403  200  200  200  200= 403  200  200= 200= 200= 403  403  403  403  403
ANY    /api/ext-bundles/initiate-upload                             410

GET    /uploads/:id/events                       alice's            401  401  401  403  200  200  200  404= 200  200  404= 404= 404= 404= 403  403  403  404=
GET    /uploads/:id/events                       nobody's           401  401  401  403  404  404  404  404  404  404  404  404  404  404  403  403  403  404
GET    /extensions                                                  401  401  401  403  200  200  200  200  200  200  200  200  200  200  403  403  403  200
GET    /extensions/:id/versions                  alice's            401  401  401  403  200  200  200  200  200  200  200  200  200  200  403  403  403  200

POST   /api/v1/jobs                                                 401  401  401  403  202  202  202  202  403  202  202  202  202  403  403  403  403  202
POST   /api/v1/jobs                              alice's            401  401  401  403  202  202  202  404= 403  202  404= 404= 202  403  403  403  403  404=
POST   /generate/:model                                             401  401  401  403  202  202  202  202  403  202  202  202  202  403  403  403  403  202
GET    /api/v1/jobs                                                 401  401  401  403  200  200  200  200  403  200  200  200  200  403  403  403  403  200
GET    /api/v1/queue                                                401  401  401  403  200  200  200  200  403  200  200  200  200  403  403  403  403  200
GET    /api/v1/jobs/:id                          alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
GET    /api/v1/jobs/:id                          app's              401  401  401  403  200  200  200  200  403  404= 404= 404= 404= 403  403  403  403  404=
GET    /api/v1/jobs/:id                          dev's              401  401  401  403  200  200  200  404= 403  404= 404= 404= 404= 403  403  403  403  200
GET    /api/v1/jobs/:id                          nobody's           401  401  401  403  404  404  404  404  403  404  404  404  404  403  403  403  403  404
GET    /api/v1/jobs/:id/events                   alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
POST   /api/v1/jobs/:id/cancel                   alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
POST   /api/v1/jobs/:id/retry                    alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
DELETE /api/v1/jobs/:id                          alice's            401  401  401  403  204  204  204  404= 403  204  404= 404= 404= 403  403  403  403  404=
GET    /api/v1/jobs/:id/results/:name            alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
POST   /api/v1/jobs/:id/download-tokens          alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
POST   /api/v1/jobs/:id/promote                  alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
GET    /api/v1/downloads/:token                  alice's            200
GET    /api/v1/downloads/:token                  nobody's           404

POST   /files/upload                                                401  401  401  403  201  201  201  201  201  201  201  201  201  201  201  201  403  201
GET    /files                                                       401  401  401  403  200  200  200  200  200  200  200  200  200  200  200  403  403  200
GET    /files/:id                                alice's            401  401  401  403  200  200  200  200  200  200  200  403  200  200  200  200  403  403
GET    /files/:id                                alice's public     401  401  401  403  200  200  200  200  200  200  200  200  200  200  200  200  403  200
GET    /files/:id                                alice's restricted 401  401  401  403  200  200  200  403  200  200  403  403  200  200  404= 404= 403  403
GET    /files/:id                                alice's granted    401  401  401  403  200  200  200  403  200  200  200  403  200  200  404= 404= 403  403
GET    /files/:id                                app's restricted   401  401  401  403  200  200  200  200  403  403  403  403  403  403  404= 200  403  403
GET    /files/:id                                carol's            401  401  401  403  200  200  200  403  403  403  403  200  403  403  404= 404= 403  403
GET    /files/:id                                alice's signed     200
GET    /files/:id                                nobody's           401  401  401  403  404  404  404  404  404  404  404  404  404  404  404  404  403  404
PATCH  /files/:id                                alice's            401  401  401  403  200  200  200  403  200  200  403  403  200  200  404= 404= 403  403
PATCH  /files/:id                                alice's public     401  401  401  403  200  200  200  403  200  200  403  403  200  200  404= 404= 403  403
PATCH  /files/:id                                nobody's           401  401  401  403  404  404  404  404  404  404  404  404  404  404  404  404  403  404
DELETE /files/:id                                alice's            401  401  401  403  204  204  204  403  204  204  403  403  204  204  204= 204= 403  403
DELETE /files/:id                                alice's granted    401  401  401  403  204  204  204  403  204  204  403  403  204  204  204= 204= 403  403
DELETE /files/:id                                nobody's           401  401  401  403  204  204  204  204  204  204  204  204  204  204  204  204  403  204
PUT    /files/:id/grants/:subject                alice's restricted 401  401  401  403  204  204  204  403  204  204  403  403  204  204  404= 404= 403  403
PUT    /files/:id/grants/:subject                alice's granted    401  401  401  403  204  204  204  403  204  204  403  403  204  204  404= 404= 403  403
DELETE /files/:id/grants/:subject                alice's granted    401  401  401  403  204  204  204  403  204  204  403  403  204  204  404= 404= 403  403
POST   /files/:id/signed-url                     alice's            401  401  401  403  200  200  200  403  200  200  403  403  200  200  404= 404= 403  403
POST   /files/:id/signed-url                     alice's public     401  401  401  403  200  200  200  403  200  200  403  403  200  200  404= 404= 403  403
POST   /attachments/check-permission             alice's            401  401  401  403  204  204  204  204  204  204  204  403= 204  204  204  204  403  403=
POST   /attachments/check-permission             alice's restricted 401  401  401  403  204  204  204  403  204  204  403  403  204  204  403= 403= 403  403
POST   /attachments/check-permission             nobody's           401  401  401  403  403  403  403  403  403  403  403  403  403  403  403  403  403  403

POST   /media/upload/init                                           401  401  401  403  201  201  201  201  201  201  201  201  201  201  403  403  403  201
PUT    /media/upload/:token                                         200
PUT    /media/upload/:token                      nobody's           401
POST   /media/upload/complete                    alice's            401  401  401  403  404= 404= 404= 404= 200  200  404= 404= 200  200  403  403  403  404=
GET    /media                                                       401  401  401  403  200  200  200  200  200  200  200  200  200  200  403  403  403  200
GET    /media/:user/:folder/:name                alice's            401  401  401  403  404= 404= 404= 404= 200  200  404= 404= 200  200  403  403  403  404=
GET    /media/:user/:folder/:name                nobody's           401  401  401  403  404  404  404  404  404  404  404  404  404  404  403  403  403  404
DELETE /media/:user/:folder/:name                alice's            401  401  401  403  404= 404= 404= 404= 204  204  404= 404= 204  204  403  403  403  404=
GET    /events                                                      401  401  401  403  200  200  200  200  200  200  200  200  200  200  403  403  403  200

POST   /api/upload                                                  401  401  401  403  201  201  201  201  403  201  201  201  201  403  403  403  403  201
GET    /api/upload/status/:jobId                 alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
GET    /api/upload/status/:jobId                 nobody's           401  401  401  403  404  404  404  404  403  404  404  404  404  403  403  403  403  404
GET    /api/upload/result/:jobId                 alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
GET    /api/upload/events/:jobId                 alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
GET    /api/upload/stream/:jobId                 alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=
POST   /api/upload/cancel/:jobId                 alice's            401  401  401  403  200  200  200  404= 403  200  404= 404= 404= 403  403  403  403  404=

POST   /admin/tokens                                                401  401  401  403  201  201  201  403  403  403  403  403  403  403  403  403  403  403
GET    /admin/tokens                                                401  401  401  403  200  200  200  403  403  403  403  403  403  403  403  403  403  403
DELETE /admin/tokens/:id                         alice's            401  401  401  403  204  204  204  403  403  403  403  403  403  403  403  403  403  403
DELETE /admin/tokens/:id                         nobody's           401  401  401  403  404  404  404  403  403  403  403  403  403  403  403  403  403  403

POST   /jobs                                                        202
GET    /jobs                                                        200
GET    /jobs/:jobId                              dev's              200
GET    /jobs/:jobId                              alice's            404=
GET    /jobs/:jobId/events                       dev's              200
GET    /jobs/:jobId/events                       alice's            404=
GET    /jobs/:jobId/download/:filename           dev's              200
GET    /jobs/:jobId/download/:filename           alice's            404=
GET    /queues/stats                                                200

POST   /process-upload                                              401  401  401  403  403  403  403  403  403  403  403  403  403  403  403  403  400  400
POST   /process                                                     401  401  401  403  403  403  403  403  403  403  403  403  403  403  403  403  404  404
GET    /result/:jobId                                               401  401  401  403  403  403  403  403  403  403  403  403  403  403  403  403  404  404
POST   /cancel                                                      401  401  401  403  403  403  403  403  403  403  403  403  403  403  403  403  404  404

GET    /v2                                                          200
GET    /v2/health/live                                              200
GET    /v2/health/ready                                             200
GET    /v2/models/:name                                             401  401  401  403  200  200  200  200  403  200  200  200  200  403  403  403  403  200
GET    /v2/models/:name/ready                                       401  401  401  403  200  200  200  200  403  200  200  200  200  403  403  403  403  200
GET    /v2/models/:name/versions/:version                           401  401  401  403  200  200  200  200  403  200  200  200  200  403  403  403  403  200
GET    /v2/models/:name/versions/:version/ready                     401  401  401  403  200  200  200  200  403  200  200  200  200  403  403  403  403  200
POST   /v2/models/:name/infer                                       401  401  401  403  504  504  504  504  403  504  504  504  504  403  403  403  403  504
POST   /v2/models/:name/versions/:version/infer                     401  401  401  403  504  504  504  504  403  504  504  504  504  403  403  403  403  504
POST   /v2/repository/index                                         401  401  401  403  200  200  200  200  403  200  200  200  200  403  403  403  403  200
POST   /v2/repository/models/:name/load                             401  401  401  403  200  200  200  403  403  403  403  403  403  403  403  403  403  403
POST   /v2/repository/models/:name/unload                           401  401  401  403  200  200  200  403  403  403  403  403  403  403  403  403  403  403
`

/** Some thousands of requests, each over a real socket. */
const FILE_TIMEOUT_MS = 300_000

/** `endless`: what is answered goes on for as long as somebody listens. */
interface Call { path: string, body?: Uint8Array | string, headers?: Record<string, string>, endless?: boolean }

/** Lays out what a call is about, and says how it is made. `path`: of the route. */
type Prepare = (seeder: Seeder, whose: Whose, path: string) => Promise<Call>

const TENSORS = [{ name: 'x', shape: [1, 2], datatype: 'FP32', data: [1, 2] }]
const BYTES = Buffer.from('hello')
const TYPE = 'image/png'

function filled(path: string, parameters: Record<string, string>): string {
  return path.replaceAll(/:(\w+)/g, (_, name: string) => encodeURIComponent(parameters[name]!))
}

function json(path: string, body: unknown): Call {
  return { path, body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
}

function multipart(parts: readonly FormPart[]): Pick<Call, 'body' | 'headers'> {
  return { body: form(parts), headers: { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` } }
}

function ownerOf(whose: Whose): Owner | undefined {
  return whose === "nobody's" || whose === '-' ? undefined : OWNERS[whose.split(' ')[0] as OwnerName]
}

async function fileIdFor(seeder: Seeder, whose: Whose): Promise<string> {
  const owner = ownerOf(whose)
  const how = whose.split(' ')[1]
  if (owner === undefined) return randomUUID()
  if (how === undefined || how === 'signed') return await seeder.file(owner, 'account')
  return how === 'granted' ? await seeder.file(owner, 'restricted', ['bob']) : await seeder.file(owner, how as FileAccess)
}

function aboutFile(make: (path: string) => Call = path => ({ path })): Prepare {
  return async (seeder, whose, path) => {
    const id = await fileIdFor(seeder, whose)
    return make(filled(path, { id, subject: 'bob' }) + (whose.endsWith('signed') ? await signatureFor(seeder, id) : ''))
  }
}

/** The query of an address that the service has signed. */
async function signatureFor({ app }: Seeder, id: string): Promise<string> {
  const { status, body } = await app.post(`/files/${id}/signed-url`, {})
  if (status !== 200) throw new Error(JSON.stringify(body))
  return new URL((body as { url: string }).url, app.url).search
}

/** A call about one job. Without an owner there is no such job. */
function aboutJob(status: 'queued' | 'failed' | 'completed', make: (path: string) => Call = path => ({ path })): Prepare {
  return async (seeder, whose, path) => {
    const owner = ownerOf(whose)
    const id = owner === undefined ? randomUUID() : (await seeder.job(owner, status)).id
    return make(filled(path, { id, jobId: id, name: RESULT, filename: RESULT }))
  }
}

const aboutModel = (body?: unknown): Prepare => async (_seeder, _whose, path) => {
  const url = filled(path, { name: 'identity', version: '1' })
  return body === undefined ? { path: url } : json(url, body)
}

const stagedKey = async (seeder: Seeder, whose: Whose): Promise<string> => {
  const owner = ownerOf(whose)
  return owner === undefined ? `sha256/_staging/${randomUUID()}/object` : (await seeder.upload(owner)).key
}

const upload: Prepare = async (_seeder, _whose, path) => ({ path: `${path}?filename=file.bin&size=${BYTES.length}`, body: BYTES })
const withStagingKey: Prepare = async (seeder, whose, path) => json(path, { key: await stagedKey(seeder, whose) })

/** What is not there would be alice's. */
async function mediaPathFor(seeder: Seeder, whose: Whose): Promise<string> {
  const owner = ownerOf(whose)
  return owner === undefined ? mediaPath(OWNERS["alice's"], `${randomUUID()}/file.bin`) : await seeder.media(owner)
}

const aboutMedia: Prepare = async (seeder, whose) => ({ path: `/${await mediaPathFor(seeder, whose)}` })

/** Of tensors, or of a file of somebody's. */
const newJob: Prepare = async (seeder, whose, path) => {
  if (whose === '-') return json(path, { model: 'identity', input: { tensors: TENSORS } })
  const owner = ownerOf(whose)
  const fileId = owner === undefined ? randomUUID() : (await seeder.job(owner, 'completed')).results[0]!.fileId
  return json(path, { model: 'identity', input: { file_id: fileId } })
}

/** What is more than its own path. */
const CALLS: Record<string, Prepare> = {
  'GET /docs/static/*': async () => ({ path: '/docs/static/swagger-ui.css' }),
  'POST /upload-proxy': upload,
  'POST /api/ext-bundles/upload-proxy': upload,
  'POST /finalize': withStagingKey,
  'POST /api/ext-bundles/finalize': withStagingKey,
  'POST /abort': withStagingKey,
  'POST /api/ext-bundles/abort': withStagingKey,
  'GET /uploads/:id/events': async (seeder, whose, path) => {
    const owner = ownerOf(whose)
    return { path: filled(path, { id: owner === undefined ? randomUUID() : (await seeder.upload(owner)).id }) }
  },
  'GET /extensions/:id/versions': async (seeder, whose, path) => ({ path: filled(path, { id: await seeder.extension(ownerOf(whose)!) }) }),
  'POST /api/v1/jobs': newJob,
  'POST /generate/:model': async () => json('/generate/identity', { input: { tensors: TENSORS } }),
  'GET /api/v1/jobs': async () => ({ path: '/api/v1/jobs?user_id=alice' }),
  'GET /api/v1/jobs/:id': aboutJob('queued'),
  'GET /api/v1/jobs/:id/events': aboutJob('completed'),
  'POST /api/v1/jobs/:id/cancel': aboutJob('queued'),
  'POST /api/v1/jobs/:id/retry': aboutJob('failed'),
  'DELETE /api/v1/jobs/:id': aboutJob('queued'),
  'GET /api/v1/jobs/:id/results/:name': aboutJob('completed'),
  'POST /api/v1/jobs/:id/download-tokens': aboutJob('completed', path => json(path, { name: RESULT })),
  // one that was promoted before: there is no gateway
  'POST /api/v1/jobs/:id/promote': async (seeder, whose, path) => {
    const owner = ownerOf(whose)
    const id = owner === undefined ? randomUUID() : await seeder.promoted(owner, 'a/b.json')
    return json(filled(path, { id }), { source: RESULT, target_object_key: 'a/b.json' })
  },
  'GET /api/v1/downloads/:token': async (seeder, whose, path) => {
    const owner = ownerOf(whose)
    return { path: filled(path, { token: owner === undefined ? randomUUID() : await seeder.download(owner) }) }
  },
  'POST /files/upload': async (_seeder, _whose, path) => ({ path, ...multipart([file('bytes', 'file')]) }),
  'GET /files/:id': aboutFile(),
  'PATCH /files/:id': aboutFile(path => json(path, { filename: 'other.bin' })),
  'DELETE /files/:id': aboutFile(),
  'PUT /files/:id/grants/:subject': aboutFile(),
  'DELETE /files/:id/grants/:subject': aboutFile(),
  'POST /files/:id/signed-url': aboutFile(path => json(path, {})),
  'POST /attachments/check-permission': async (seeder, whose, path) => json(path, { file_id: await fileIdFor(seeder, whose) }),
  'POST /media/upload/init': async (_seeder, _whose, path) => json(path, { filename: 'file.bin', contentType: TYPE }),
  'PUT /media/upload/:token': async ({ app }, whose, path) => {
    const { body } = await app.post('/media/upload/init', { filename: 'file.bin', contentType: TYPE })
    const { uploadURL } = body as { uploadURL: string }
    return { path: whose === "nobody's" ? filled(path, { token: 'a-token' }) : uploadURL, body: BYTES, headers: { 'content-type': TYPE } }
  },
  'POST /media/upload/complete': async (seeder, whose, path) => json(path, { objectPath: await mediaPathFor(seeder, whose) }),
  'GET /media/:user/:folder/:name': aboutMedia,
  'DELETE /media/:user/:folder/:name': aboutMedia,
  'GET /events': async (_seeder, _whose, path) => ({ path, endless: true }),
  'POST /api/upload': async () => ({ path: '/api/upload', body: form([['model', 'resize'], file('a video', 'video', 'a.mp4', 'video/mp4')]), headers: { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` } }),
  'GET /api/upload/status/:jobId': aboutJob('queued'),
  'GET /api/upload/result/:jobId': aboutJob('completed'),
  'GET /api/upload/events/:jobId': aboutJob('completed'),
  'GET /api/upload/stream/:jobId': aboutJob('completed'),
  'POST /api/upload/cancel/:jobId': aboutJob('queued'),
  'POST /admin/tokens': async () => json('/admin/tokens', { kind: 'public', account: 'acme' }),
  'DELETE /admin/tokens/:id': async (seeder, whose, path) => ({ path: filled(path, { id: whose === "nobody's" ? randomUUID() : await seeder.token(ownerOf(whose)!) }) }),
  'POST /jobs': async () => ({ path: '/jobs', ...multipart([['model', 'resize'], file('an image')]) }),
  'GET /jobs/:jobId': aboutJob('queued'),
  'GET /jobs/:jobId/events': aboutJob('completed'),
  'GET /jobs/:jobId/download/:filename': aboutJob('completed'),
  // as far as a node comes without running anything: no file, none that is there, no job under way
  'POST /process-upload': async (_seeder, _whose, path) => ({ path, ...multipart([['jobId', 'a-job']]) }),
  'POST /process': async (_seeder, _whose, path) => json(path, { jobId: 'a-job', inputPath: 'media/none.png', outputPath: 'media/out.png', model: 'color-classes' }),
  'GET /result/:jobId': async (_seeder, _whose, path) => ({ path: filled(path, { jobId: 'a-job' }) }),
  'POST /cancel': async (_seeder, _whose, path) => json(path, { jobId: 'a-job' }),
  'GET /v2/models/:name': aboutModel(),
  'GET /v2/models/:name/ready': aboutModel(),
  'GET /v2/models/:name/versions/:version': aboutModel(),
  'GET /v2/models/:name/versions/:version/ready': aboutModel(),
  'POST /v2/models/:name/infer': aboutModel({ inputs: TENSORS }),
  'POST /v2/models/:name/versions/:version/infer': aboutModel({ inputs: TENSORS }),
  'POST /v2/repository/models/:name/load': aboutModel({}),
  // a version that is not there: the others still need the model
  'POST /v2/repository/models/:name/unload': async (seeder, _whose, path) => {
    const name = `spare-${randomUUID()}`
    await seeder.model(name)
    return json(filled(path, { name }), {})
  }
}

interface Cell { caller: CallerName, status: number, asIfNothing: boolean }
interface Row { title: string, method: string, path: string, whose: Whose, cells: Cell[] }

function rowsOf(matrix: string): Row[] {
  const [head = '', ...lines] = matrix.split('\n').filter(line => line.trim() !== '')
  const names = head.trim().split(/ +/) as CallerName[]
  return lines.map(line => rowOf(line, names))
}

function rowOf(line: string, names: readonly CallerName[]): Row {
  const parts = /^(?<method>[A-Z]+) +(?<path>\/\S*) +(?:(?<whose>[a-z]+'s(?: [a-z]+)?) +)?(?<cells>\d{3}.*)$/.exec(line)?.groups
  if (parts === undefined) throw new Error(`this is no row: ${line}`)
  const { method = '', path = '', whose = '-', cells = '' } = parts
  const texts = cells.trim().split(/ +/)
  const all = texts.length === 1 ? names.map(() => texts[0]!) : texts
  if (all.length !== names.length) throw new Error(`${all.length} cells for ${names.length} callers: ${line}`)
  return {
    title: `${method} ${path}${whose === '-' ? '' : ` (${whose})`}`, method, path, whose: whose as Whose,
    cells: all.map((text, index) => ({ caller: names[index]!, status: Number.parseInt(text, 10), asIfNothing: text.endsWith('=') }))
  }
}

const defaultCall: Prepare = async (_seeder, _whose, path) => ({ path })

async function ask({ at, headers }: Caller, method: string, { path, body, headers: more }: Call): Promise<Response> {
  return await fetch(at.url + path, {
    method: method === 'ANY' ? 'POST' : method, redirect: 'manual', headers: { ...more, ...headers }, ...(body !== undefined && { body: body as NonNullable<RequestInit['body']> })
  })
}

/** Everything of an answer but what says when it was given, to what request, and the name of the thing that was asked for. */
async function shape(answer: Response, endless = false): Promise<{ status: number, headers: [string, string][], body: string }> {
  const passing = ['date', 'x-request-id']
  const text = endless && answer.ok ? await answer.body?.cancel() ?? '' : await answer.text()
  const body = text.replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '<uuid>')
  return { status: answer.status, headers: [...answer.headers].filter(([name]) => !passing.includes(name)), body }
}

/** What reads change nothing, and can be laid out once for all who ask; but for what is gone once it was read. */
const ONCE = ['GET /api/v1/downloads/:token']
/** Timers of the service may ask the records something in between. */
const COMPARISONS_MAX = 3

const laidOut = new Map<string, Promise<Call>>()

async function callFor({ at }: Caller, { method, path }: Row, whose: Whose): Promise<Call> {
  const route = `${method} ${path}`
  const make = async (): Promise<Call> => await (CALLS[route] ?? defaultCall)(at.seeder, whose, path)
  if (method !== 'GET' || ONCE.includes(route)) return await make()
  const name = `${at.url} ${route} ${whose}`
  const made = laidOut.get(name) ?? make()
  laidOut.set(name, made)
  return await made
}

/** Status and `=` as a cell has them, or how the answer is not that of nothing. */
async function outcomeOf(caller: Caller, method: string, row: Row, asIfNothing: boolean): Promise<string> {
  const about = async (whose: Whose) => {
    const call = await callFor(caller, row, whose)
    return await statementsOf(async () => await shape(await ask(caller, method, call), call.endless))
  }
  if (!asIfNothing) return String((await about(row.whose)).result.status)
  let difference = ''
  for (let comparison = 1; comparison <= COMPARISONS_MAX; comparison += 1) {
    const [theirs, nothing] = [await about(row.whose), await about("nobody's")]
    const [answers, works] = [[theirs.result, nothing.result].map(each => JSON.stringify(each)), [theirs.statements, nothing.statements].map(each => each.join(';'))]
    if (answers[0] !== answers[1]) return `${answers[0]}, and for nothing: ${answers[1]}`
    if (works[0] === works[1]) return `${theirs.result.status}=`
    difference = `${theirs.result.status} after other work: ${works[0]}, and for nothing: ${works[1]}`
  }
  return difference
}

t.setTimeout(FILE_TIMEOUT_MS)
const prepared = preparing(t)
const { services, callers } = await startCallers(t)
prepared()

void t.test('every route has a row, every row a route, and every caller a column', async t => {
  const rows = rowsOf(MATRIX)
  const routes = await routesOf(services[0]!.app.server)
  const covered = new Set(rows.flatMap(({ method, path }) => [`${method} ${path}`, ...(method === 'GET' ? [`HEAD ${path}`] : [])]))
  t.same(routes.filter(route => !covered.has(route)), [], 'routes without a row')
  t.same([...new Set(rows.map(({ method, path }) => `${method} ${path}`))].filter(route => !routes.includes(route)), [], 'rows without a route')
  t.same(await routesOf(services[1]!.app.server), routes, 'both services have the same routes')
  t.same(rows[0]!.cells.map(({ caller }) => caller).filter(name => callers[name] === undefined && name !== 'ses'), [], 'callers that could not be made')
  t.same(rows[0]!.cells.map(({ caller }) => caller).toSorted(), Object.keys(CALLERS).toSorted())
})

void t.test('each caller gets what the matrix says', async t => {
  const routes = await routesOf(services[0]!.app.server)
  for (const row of rowsOf(MATRIX)) {
    const methods = row.method === 'GET' && routes.includes(`HEAD ${row.path}`) ? ['HEAD', 'GET'] : [row.method]
    for (const method of methods) {
      const cells = row.cells.filter(({ caller }) => callers[caller] !== undefined)
      const found: Record<string, string> = {}
      for (const cell of cells) found[CALLERS[cell.caller]] = await outcomeOf(callers[cell.caller]!, method, row, cell.asIfNothing)
      t.same(found, Object.fromEntries(cells.map(cell => [CALLERS[cell.caller], `${cell.status}${cell.asIfNothing ? '=' : ''}`])), row.title.replace('GET', method))
    }
  }
})

void t.test('lists show each caller its own things, and administrators of jobs all of them', async t => {
  const { seeder } = services[0]!
  const files: Record<string, string> = {}
  const jobs: Record<string, string> = {}
  const media: Record<string, string> = {}
  for (const [whose, owner] of Object.entries(OWNERS)) {
    files[await seeder.file(owner, 'public')] = whose
    media[await seeder.media(owner)] = whose
    jobs[(await seeder.job(owner, 'queued')).id] = whose
  }
  for (const [name, own] of [['ali', "alice's"], ['key', "alice's"], ['ses', "alice's"], ['car', "carol's"], ['svc', "app's"], ['bob', undefined], ['gst', undefined], ['adm', undefined]] as const) {
    const caller = callers[name]
    if (caller === undefined) continue
    t.same(await listed(caller, '/files?limit=100', 'file_id', files), own === undefined ? [] : [own], `files of ${name}`)
  }
  for (const [name, own] of [['ali', ["alice's"]], ['key', ["alice's"]], ['svc', ["app's"]], ['bob', []], ['adm', []]] as const) {
    t.same(await listed(callers[name]!, '/media?limit=100', 'path', media), own, `media of ${name}`)
  }
  for (const [name, own] of [['ali', ["alice's"]], ['key', []], ['car', ["carol's"]], ['bob', []], ['adm', Object.keys(OWNERS)]] as const) {
    t.same(await listed(callers[name]!, '/api/v1/jobs?limit=100', 'job_id', jobs), own, `jobs of ${name}`)
  }
})

/** Whose things of these are in a list, as far as it goes. */
async function listed(caller: Caller, path: string, idName: string, whose: Record<string, string>): Promise<string[]> {
  const found: string[] = []
  for (let cursor = ''; ;) {
    const answer = await ask(caller, 'GET', { path: `${path}${cursor}` })
    const { items, next_cursor: next } = await answer.json() as { items: Record<string, string>[], next_cursor: string | null }
    found.push(...items.map(item => whose[item[idName]!]).filter(each => each !== undefined))
    if (next === null) return Object.keys(OWNERS).filter(each => found.includes(each))
    cursor = `&cursor=${encodeURIComponent(next)}`
  }
}
