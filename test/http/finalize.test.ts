import t from 'tap'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MANIFEST_MAX_BYTES } from '../../src/limits.ts'
import { bundleBytes } from '../support/bundles.ts'
import { makeCertificate, signHash } from '../support/certificates.ts'
import { keysOf } from '../support/nothing-left.ts'
import { startApp } from '../support/start-app.ts'

t.test('a name that is not known is refused, not ignored: it may be a misspelt one that would have been checked', async t => {
  const app = await startApp(t)
  const { body: { upload: { key } } } = await app.upload(Buffer.from('x'))
  for (const [path, body, field] of [
    ['/finalize', { key, declaredhash: 'a'.repeat(64) }, 'declaredhash'],
    ['/finalize', { key, signature: { txt: 'x' } }, 'signature.txt'],
    ['/abort', { key, Reason: 'x' }, 'Reason']
  ] as const) {
    const answer = await app.post(path, body)
    t.match([answer.status, answer.body], [400, { code: 'BAD_REQUEST', details: { fields: [{ field, message: 'is not known here' }] } }], field)
  }
  t.same(await keysOf(app), [key], 'nothing was done')
})

t.test('a signature algorithm that nobody knows is one fault, which names those there are', async t => {
  const app = await startApp(t)
  const { body: { upload: { key } } } = await app.upload(Buffer.from('x'))
  for (const algorithm of ['rsa', 1, null]) {
    const { status, body } = await app.post('/finalize', { key, signature: { algorithm } })
    t.equal(status, 400)
    t.same(body.details.fields, [{ field: 'signature.algorithm', message: 'must be one of x509, ed25519, cosign, pgp' }])
  }
})

t.test('a manifest that is too long is an invalid manifest, in characters as in bytes', async t => {
  const app = await startApp(t)
  const { body: { upload: { key } } } = await app.upload(await bundleBytes(), { filename: 'a.tar.zst' })
  for (const filler of ['x'.repeat(MANIFEST_MAX_BYTES + 1), 'é'.repeat(MANIFEST_MAX_BYTES / 2 + 1)]) {
    t.match(await app.post('/finalize', { key, manifestJson: JSON.stringify({ name: filler }) }), { status: 400, body: { code: 'INVALID_MANIFEST', details: { issues: [{ message: String }] } } })
  }
  t.match(await app.post('/finalize', { key, manifestJson: 'x'.repeat(5 * MANIFEST_MAX_BYTES) }), { status: 413 }, 'the body has its own limit')
  t.equal((await app.post('/finalize', { key })).status, 200)
})

t.test('a certificate that signed a bundle is named in the answer, also when it is repeated', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-trust-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const root = makeCertificate({ subject: 'Root', keys: generateKeyPairSync('ec', { namedCurve: 'P-256' }), ca: true, keyUsage: [5] })
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const leaf = makeCertificate({ subject: 'Acme Build', keys, issuer: root, keyUsage: [0] })
  await writeFile(join(folder, 'trust.pem'), root.pem)
  const app = await startApp(t, { SIGNING_TRUST_BUNDLE: join(folder, 'trust.pem') })
  const { body: { upload, sha256 } } = await app.upload(await bundleBytes(), { filename: 'a.tar.zst' })
  const signature = { algorithm: 'x509', text: signHash(sha256, keys.privateKey), certificate: leaf.pem }
  for (const time of ['first', 'again']) {
    const { status, body } = await app.post('/finalize', { key: upload.key, signature })
    t.equal(status, 200)
    t.match(body.signature, { required: true, verified: true, algorithm: 'x509', key: /^[0-9a-f]{64}$/, subject: /Acme Build/ }, time)
  }
})
