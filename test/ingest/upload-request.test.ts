import t from 'tap'
import { PenstockError } from '../../src/errors.ts'
import { profilesOf } from '../../src/ingest/profiles.ts'
import { readUploadRequest } from '../../src/ingest/upload-request.ts'

const profiles = profilesOf({ MAX_BUNDLE_SIZE_BYTES: 1000, MAX_OBJECT_SIZE_BYTES: 2000, MAX_MODEL_SIZE_BYTES: 3000 })
const hash = 'a'.repeat(64)
const good = { filename: 'photo.jpg', size: '10' }
const allow = (): void => {}
const read = (query: Record<string, unknown>, headers: Record<string, string> = { 'content-length': '10' }) =>
  readUploadRequest(query, headers, profiles, allow)
const whyOf = (query: Record<string, unknown>, headers?: Record<string, string>): string | undefined => {
  try {
    read(query, headers)
    return undefined
  } catch (error) {
    return error instanceof PenstockError && error.statusCode === 400 ? error.why : String(error)
  }
}
const digest = `sha-256=:${Buffer.from(hash, 'hex').toString('base64')}:`

t.test('a good request is read whole', async t => {
  t.match(read({ ...good, declaredHash: hash, uploadId: 'B0B1F2C3-0000-4000-8000-000000000000' }), {
    profile: { kind: 'object' }, filename: 'photo.jpg', size: 10, declaredSha256: hash, uploadId: 'b0b1f2c3-0000-4000-8000-000000000000'
  })
})

t.test('the kind follows the filename where none is given', async t => {
  t.equal(read({ ...good, filename: 'a.tar.zst' }).profile.kind, 'bundle')
  t.equal(read({ ...good, filename: 'a.tar.zst', kind: 'object' }).profile.kind, 'object')
  t.equal(read({ ...good, filename: 'tar.zst.txt' }).profile.kind, 'object')
})

t.test('each fault has its slug', async t => {
  const rows: [string, Record<string, unknown>, Record<string, string>?][] = [
    ['kind_invalid', { ...good, kind: 'toString' }],
    ['kind_invalid', { ...good, kind: '' }],
    ['kind_invalid', { ...good, kind: ['object', 'bundle'] }],
    ['upload_id_invalid', { ...good, uploadId: '' }],
    ['upload_id_invalid', { ...good, uploadId: 'b0b1f2c3-0000-1000-8000-000000000000' }],
    ['upload_id_invalid', { ...good, uploadId: '../../etc/passwd' }],
    ['filename_required', { size: '10' }],
    ['filename_required', { ...good, filename: ' \t' }],
    ['filename_required', { ...good, filename: ['a', 'b'] }],
    ['filename_required', { ...good, filename: 'x'.repeat(256) }],
    ['filename_required', { ...good, filename: 'ü'.repeat(128) }],
    ['size_required', { filename: 'a' }],
    ['size_required', { ...good, size: '' }],
    ['size_invalid', { ...good, size: '0' }],
    ['size_invalid', { ...good, size: '-1' }],
    ['size_invalid', { ...good, size: '1e3' }],
    ['size_invalid', { ...good, size: '0x10' }],
    ['size_invalid', { ...good, size: ' 5 ' }],
    ['size_invalid', { ...good, size: '5.0' }],
    ['size_invalid', { ...good, size: ['5', '5'] }],
    ['size_exceeds_cap', { ...good, size: '2001' }],
    ['size_exceeds_cap', { ...good, size: '9'.repeat(40) }],
    ['declared_hash_invalid', { ...good, declaredHash: '' }],
    ['declared_hash_invalid', { ...good, declaredHash: hash.toUpperCase() }],
    ['declared_hash_invalid', { ...good, declaredHash: `sha256:${hash}` }],
    ['declared_hash_invalid', { ...good, declaredHash: hash.slice(1) }],
    ['declared_hash_invalid', good, { 'content-length': '10', 'content-digest': 'sha-256=:AAAA:' }],
    ['declared_hash_invalid', good, { 'content-length': '10', 'repr-digest': `sha-256=${hash}` }],
    ['declared_hash_invalid', { ...good, declaredHash: 'b'.repeat(64) }, { 'content-length': '10', 'content-digest': digest }],
    ['content_length_mismatch', good, { 'content-length': '11' }],
    ['content_length_mismatch', good, { 'content-length': '0' }],
    ['missing_body', good, {}]
  ]
  for (const [why, query, headers] of rows) t.equal(whyOf(query, headers), why, `${why}: ${JSON.stringify(query).slice(0, 80)}`)
})

t.test('the first failure of the order wins', async t => {
  const everythingWrong: Record<string, unknown> = { kind: 'x', uploadId: 'x', declaredHash: 'x' }
  t.equal(whyOf(everythingWrong, {}), 'kind_invalid')
  t.equal(whyOf({ ...everythingWrong, kind: 'object' }, {}), 'upload_id_invalid')
  const withIds = { declaredHash: 'x', kind: 'object' }
  t.equal(whyOf(withIds, {}), 'filename_required')
  t.equal(whyOf({ ...withIds, filename: 'a' }, {}), 'size_required')
  t.equal(whyOf({ ...withIds, filename: 'a', size: 'x' }, {}), 'size_invalid')
  t.equal(whyOf({ ...withIds, filename: 'a', size: '5000' }, {}), 'size_exceeds_cap')
  t.equal(whyOf({ ...withIds, filename: 'a', size: '10' }, {}), 'declared_hash_invalid')
  t.equal(whyOf({ filename: 'a', size: '10' }, { 'content-length': '9' }), 'content_length_mismatch')
})

t.test('exactly the cap passes', async t => {
  t.equal(read({ ...good, size: '2000' }, { 'content-length': '2000' }).size, 2000)
  t.equal(read({ filename: 'x'.repeat(255), size: '10' }).filename.length, 255)
})

t.test('digest fields of RFC 9530 count as the declared hash', async t => {
  t.equal(read(good, { 'content-length': '10', 'content-digest': digest }).declaredSha256, hash)
  t.equal(read(good, { 'content-length': '10', 'repr-digest': `md5=:AAAA:, ${digest}` }).declaredSha256, hash)
  t.equal(read({ ...good, declaredHash: hash }, { 'content-length': '10', 'content-digest': digest }).declaredSha256, hash)
  t.equal(read(good, { 'content-length': '10', 'content-digest': 'sha-512=:AAAA:' }).declaredSha256, undefined, 'an algorithm that is not checked says nothing')
})

t.test('a body without Content-Length is taken when it is chunked', async t => {
  t.equal(read(good, { 'transfer-encoding': 'chunked' }).size, 10)
})
