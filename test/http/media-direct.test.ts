/** Media that clients send to the object store themselves: over a real MinIO. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { readConfig } from '../../src/config.ts'
import { canonicalKey, STAGING_PREFIX } from '../../src/objects/keys.ts'
import { openObjectStore } from '../../src/stores.ts'
import { begin, complete, listed, PNG, put, sha256Of, type Begun } from '../support/media.ts'
import { minioOrSkip } from '../support/minio.ts'
import { keysOf } from '../support/nothing-left.ts'
import { PEOPLE_ENV, user } from '../support/people.ts'
import { read } from '../support/shared-files.ts'
import { startApp } from '../support/start-app.ts'

const canonicalOf = (bytes: Uint8Array) => canonicalKey(sha256Of(bytes), 'object')
const stagingOf = ({ uploadURL }: Begun) => new URL(uploadURL).pathname.split('/').slice(2).join('/')

t.test('direct mode needs a store that clients can reach', t => {
  const s3 = { OBJECT_STORE: 's3', S3_BUCKET: 'b', S3_ACCESS_KEY_ID: 'id', S3_SECRET_ACCESS_KEY: 'secret' }
  t.throws(() => readConfig({ ...s3, MEDIA_UPLOAD_MODE: 'direct' }), { message: /PUBLIC_S3_ENDPOINT is missing: MEDIA_UPLOAD_MODE=direct needs it/ })
  t.throws(() => readConfig({ PUBLIC_S3_ENDPOINT: 'http://localhost:9000' }), { message: /PUBLIC_S3_ENDPOINT is set, but OBJECT_STORE is fs/ })
  t.throws(() => readConfig({ MEDIA_UPLOAD_MODE: 'direct' }), { message: /OBJECT_STORE must be s3: MEDIA_UPLOAD_MODE=direct needs it/ })
  t.equal(readConfig({ ...s3, MEDIA_UPLOAD_MODE: 'direct', PUBLIC_S3_ENDPOINT: 'http://localhost:9000' }).MEDIA_UPLOAD_MODE, 'direct')
  t.end()
})

t.test('media sent to the store directly', async t => {
  const s3 = await minioOrSkip(t)
  if (s3 === undefined) return
  const bucket = await s3.bucket()
  const env = {
    ...PEOPLE_ENV, OBJECT_STORE: 's3', S3_ENDPOINT: s3.endpoint, S3_BUCKET: bucket, S3_ACCESS_KEY_ID: s3.accessKeyId, S3_SECRET_ACCESS_KEY: s3.secretAccessKey,
    // another name of the same server, as clients would have
    PUBLIC_S3_ENDPOINT: s3.endpoint.replace('127.0.0.1', 'localhost'), MEDIA_UPLOAD_MODE: 'direct', MAX_MEDIA_SIZE_BYTES: '200000'
  }
  const app = await startApp(t, env)
  const ada = await user(app, 'ada')
  const bob = await user(app, 'bob')

  await t.test('a presigned PUT, then complete: read, hashed, and served', async t => {
    const begun = await begin(app, ada, { size: PNG.length })
    t.equal(new URL(begun.uploadURL).origin, env.PUBLIC_S3_ENDPOINT)
    t.match(stagingOf(begun), new RegExp(`^${STAGING_PREFIX}[0-9a-f-]{36}/object$`))
    t.notOk(begun.objectPath.includes(stagingOf(begun).split('/')[2]!), 'the path does not say where the bytes are')
    t.equal((await complete(app, ada, begun.objectPath)).status, 404, 'before the bytes')
    t.equal((await put(app, begun, PNG)).status, 200)
    t.equal((await complete(app, bob, begun.objectPath)).status, 404)
    const done = await complete(app, ada, begun.objectPath)
    t.match(done, { status: 200, body: { path: begun.objectPath } })
    t.match((await read(app, `/${begun.objectPath}`, ada)).headers, { etag: `"${sha256Of(PNG)}"`, 'content-type': 'image/png' })

    // the address works until it is over: what comes by it stays in staging, and changes nothing
    t.equal((await put(app, begun, Buffer.alloc(PNG.length))).status, 200)
    t.strictSame((await complete(app, ada, begun.objectPath)).body, done.body)
    t.match((await read(app, `/${begun.objectPath}`, ada)).headers, { etag: `"${sha256Of(PNG)}"` })
    t.strictSame(await keysOf(app), [canonicalOf(PNG), stagingOf(begun)].toSorted())
    const store = openObjectStore(app.config)
    t.teardown(() => store.close())
    await store.delete(stagingOf(begun))
  })

  await t.test('the store takes neither another length, nor another type, nor another key', async t => {
    const begun = await begin(app, ada, { size: PNG.length })
    t.equal((await put(app, begun, PNG.subarray(1))).status, 403)
    t.equal((await put(app, begun, PNG, { 'content-type': 'text/html' })).status, 403)
    t.equal((await put(app, { ...begun, uploadURL: begun.uploadURL.replace('/object?', '/bundle.tar.zst?') }, PNG)).status, 403)
    t.equal((await put(app, { ...begun, uploadURL: begun.uploadURL.replace(/X-Amz-Expires=\d+/, 'X-Amz-Expires=90000') }, PNG)).status, 403)
    t.match(Object.fromEntries(new URL(begun.uploadURL).searchParams), { 'X-Amz-Expires': '900', 'X-Amz-SignedHeaders': /content-length;content-type;host/ })
    t.equal((await complete(app, ada, begun.objectPath)).status, 404)
  })

  await t.test('what is over the cap is removed', async t => {
    const begun = await begin(app, ada, { contentType: 'application/octet-stream' })
    t.equal((await put(app, begun, randomBytes(200_001))).status, 200, 'the store does not know of the cap')
    t.match(await complete(app, ada, begun.objectPath), { status: 413, body: { error: { code: 'file_too_large', details: { limit_bytes: 200_000 } } } })
    t.equal((await complete(app, ada, begun.objectPath)).status, 404)
    t.notOk((await keysOf(app)).includes(stagingOf(begun)))
    const most = await begin(app, ada, { contentType: 'application/octet-stream' })
    const bytes = randomBytes(200_000)
    await put(app, most, bytes)
    t.equal((await complete(app, ada, most.objectPath)).status, 200)
  })

  await t.test('many that complete at once, while other bytes come, show bytes of one body', async t => {
    for (let round = 0; round < 3; round++) {
      const begun = await begin(app, ada, { contentType: 'application/octet-stream' })
      const bodies = [randomBytes(150_000), randomBytes(150_000)]
      await put(app, begun, bodies[0]!)
      const [answers] = await Promise.all([Promise.all(Array.from({ length: 4 }, () => complete(app, ada, begun.objectPath))), put(app, begun, bodies[1]!)])
      for (const { status, body } of answers) t.ok(status === 200 || (status === 409 && body.error.code === 'staging_changed'), `${status} ${JSON.stringify(body)}`)
      t.equal((await complete(app, ada, begun.objectPath)).status, 200)
      const { headers } = await read(app, `/${begun.objectPath}`, ada)
      t.ok(bodies.some(bytes => headers.etag === `"${sha256Of(bytes)}"`))
    }
  })

  await t.test('an address of direct mode is none of this service', async t => {
    const begun = await begin(app, ada)
    t.equal((await put(app, { ...begun, uploadURL: `/media/upload/${new URL(begun.uploadURL).searchParams.get('X-Amz-Signature')}` }, PNG)).status, 401)
    t.ok((await listed(app, ada)).items.length > 0)
  })
})
