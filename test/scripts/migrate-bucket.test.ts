import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { migration, sha256 } from '../support/migrate.ts'
import { minioOrSkip } from '../support/minio.ts'
import { s3Env } from '../support/over-stub.ts'
import { startS3Stub, type S3Stub } from '../support/s3-stub.ts'

const user = { account: 'acme', subject: null }

/** The command's own configuration says where to; these say where from. */
function from({ endpoint, bucket, accessKeyId, secretAccessKey }: Pick<S3Stub, 'endpoint' | 'bucket' | 'accessKeyId' | 'secretAccessKey'>) {
  return { env: { SOURCE_S3_ACCESS_KEY_ID: accessKeyId, SOURCE_S3_SECRET_ACCESS_KEY: secretAccessKey }, args: ['from-bucket', '--endpoint', endpoint, '--bucket', bucket] }
}

t.test('objects of another bucket, whatever their keys, become files of those whom a map names', async t => {
  const s3 = await minioOrSkip(t)
  if (s3 === undefined) return
  const bucket = await s3.bucket()
  const client = new S3Client({ endpoint: s3.endpoint, region: 'us-east-1', forcePathStyle: true, credentials: s3 })
  t.teardown(() => client.destroy())
  const large = randomBytes(18 * 1024 * 1024)
  const objects: [string, string | Uint8Array, string?][] = [
    ['users/7/a.txt', 'seven', 'text/plain'], ['users/8/large.bin', large], ['users/8/Grüße & mehr+1 %41.csv', 'a,b', 'text/csv'],
    ['users/8/.hidden', 'h'], ['users/8/folder/', ''], ['elsewhere/x', 'x'], ['shared/page', '<svg xmlns="http://www.w3.org/2000/svg"/>', 'image/svg+xml']
  ]
  for (const [Key, Body, ContentType] of objects) await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: Buffer.from(Body), ContentType }))
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'users/8/packed', Body: 'x', ContentEncoding: 'gzip' }))
  const target = await s3.bucket()
  const source = from({ ...s3, bucket })
  const m = await migration(t, { ...s3Env({ ...s3, bucket: target }), ...source.env })
  const args = [...source.args, '--map', 'users/{subject}/=acme/{subject}', '--map', 'shared/=acme', '--access', 'public']
  t.match(await m.run(...args, '--dry-run', '--prefix', 'users/'), { code: 0, stdout: /planned +5 +18\.0 MiB\nskipped +1\nfailed +0\n +1 × skipped: stands for a folder/ })
  t.match(await m.run(...args, '--verify'), { code: 1, stderr: '', stdout: /done +5 +18\.0 MiB\nskipped +2\nfailed +1\n/ })
  const seven = await m.files({ account: 'acme', subject: '7' })
  const eight = await m.files({ account: 'acme', subject: '8' })
  const shared = await m.files(user)
  t.match(seven, [{ filename: 'a.txt', contentType: 'text/plain', access: 'public', size: 5 }])
  t.match(eight, [{ filename: 'Grüße_mehr_1_41.csv', contentType: 'text/csv' }, { filename: 'hidden' }, { filename: 'large.bin', sha256: sha256(large) }])
  t.match(shared, [{ filename: 'page', contentType: 'application/octet-stream' }])
  t.equal(sha256(await m.bytesOf(eight[2]!)), sha256(large))
  t.match(await m.run(...args), { code: 1, stdout: /done +0 +0 B\nskipped +7\nfailed +1\n +5 × skipped: is there already[^]*is stored as gzip: unpack it first \(users\/8\/packed\)/ })
  await m.tidy([...seven, ...eight, ...shared])
})

t.test('a bucket that breaks off, stalls or refuses one object leaves nothing of it, and the next run has it', async t => {
  const source = await startS3Stub()
  t.teardown(() => source.close())
  const last = new Date()
  for (const key of ['cut', 'stall', 'denied', 'ok']) source.objects.set(key, { bytes: Buffer.alloc(300_000, key), etag: key, contentType: 'text/plain', lastModified: last, cacheControl: undefined })
  const { env, args } = from(source)
  const m = await migration(t, { ...env, UPLOAD_IDLE_TIMEOUT_MS: '500' })
  const faults = [
    source.fault({ operation: 'GetObject', key: 'cut' }, { kind: 'cut-download', afterBytes: 100_000 }),
    source.fault({ operation: 'GetObject', key: 'stall' }, { kind: 'stall-download', afterBytes: 100_000 }),
    source.fault({ operation: 'GetObject', key: 'denied' }, { kind: 'answer', status: 403, code: 'AccessDenied' })
  ]
  const ended = await m.run(...args, '--account', 'acme')
  t.match(ended, { code: 1, stdout: /done +1 +293\.0 KiB\nskipped +0\nfailed +3\n/ })
  for (const reason of [/broke off: .* \(cut\)/, /stopped arriving \(stall\)/, /cannot be read: .*AccessDenied.* \(denied\)/]) t.match(ended.stdout, reason)
  const files = await m.files(user)
  t.match(files, [{ filename: 'ok' }])
  await m.tidy(files)
  for (const undo of faults) undo()
  t.match(await m.run(...args, '--account', 'acme'), { code: 0, stdout: /done +3 / })
  source.fault({ operation: 'ListObjectsV2' }, { kind: 'answer', status: 403, code: 'AccessDenied' })
  t.match(await m.run(...args, '--account', 'acme'), { code: 1, stdout: /ended before it was through: the bucket cannot be listed: .*AccessDenied/ })
})
