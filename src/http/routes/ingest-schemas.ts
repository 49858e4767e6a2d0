/** Bodies and answers of the ingest routes. A response schema is also the list of what may leave. */
import { Type, type Static } from 'typebox'
import { ABORT_REASON_MAX_CHARACTERS, MANIFEST_MAX_BYTES, SIGNATURE_TEXT_MAX_BYTES } from '../../limits.ts'

const Sha256 = Type.String({ pattern: '^[a-f0-9]{64}$', description: 'sha256, 64 hexadecimal digits in lower case' })
const Size = Type.Integer({ minimum: 1, description: 'bytes' })

const stagingKey = 'sha256/_staging/0f8fad5b-d9cb-469f-a165-70867728950e'
const sha256 = '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'

/** For the documentation: the route checks these itself, in the order of the contract. */
export const UploadQuery = Type.Object({
  filename: Type.String({ description: 'kept for people, never part of a key; at most 255 bytes', examples: ['photo.jpg'] }),
  size: Type.String({ pattern: '^[0-9]+$', description: 'exact number of bytes of the body', examples: ['5'] }),
  declaredHash: Type.Optional(Type.String({ pattern: '^[a-f0-9]{64}$', description: 'sha256 that the body must have; Content-Digest and Repr-Digest (RFC 9530) count as well' })),
  kind: Type.Optional(Type.Enum(['bundle', 'object', 'model'], { description: 'without it bundle for .tar.zst, else object' })),
  uploadId: Type.Optional(Type.String({ format: 'uuid', description: 'version 4 UUID that names the upload while it arrives; drawn where it is not given' }))
})

export const UploadAnswer = Type.Object({
  upload: Type.Object({
    key: Type.String({ description: 'staging key, to be given to /finalize or /abort' }),
    strategy: Type.Literal('staging'),
    id: Type.String({ format: 'uuid' })
  }),
  filename: Type.String(),
  size: Size,
  sha256: Sha256,
  etag: Type.String(),
  declaredHash: Type.Optional(Sha256)
}, {
  description: 'the bytes are staged; /finalize makes them an object',
  headers: { 'Repr-Digest': { type: 'string', description: 'the sha256 as RFC 9530 has it: sha-256=:<base64>:' } },
  examples: [{
    upload: { key: `${stagingKey}/object`, strategy: 'staging', id: '0f8fad5b-d9cb-469f-a165-70867728950e' },
    filename: 'photo.jpg', size: 5, sha256, etag: '5d41402abc4b2a76b9719d911017c592'
  }]
})

export const Signature = Type.Object({
  text: Type.Optional(Type.String({ maxLength: SIGNATURE_TEXT_MAX_BYTES, description: 'signature in base64 over the 64 hexadecimal digits of the hash' })),
  algorithm: Type.Optional(Type.Enum(['x509', 'ed25519', 'cosign', 'pgp'])),
  certificate: Type.Optional(Type.String({ maxLength: SIGNATURE_TEXT_MAX_BYTES, description: 'x509: the chain of the signer, PEM, leaf first' }))
}, { additionalProperties: false })

export const FinalizeBody = Type.Object({
  key: Type.String({ maxLength: 1024, description: 'staging key that /upload-proxy gave' }),
  size: Type.Optional(Size),
  declaredHash: Type.Optional(Sha256),
  manifestJson: Type.Optional(Type.String({ description: `the manifest as JSON text of at most ${MANIFEST_MAX_BYTES} bytes: models need it, for bundles it stands instead of the one in the archive` })),
  signature: Type.Optional(Signature)
}, {
  additionalProperties: false,
  examples: [
    { key: `${stagingKey}/object`, size: 5, declaredHash: sha256 },
    {
      key: `${stagingKey}/bundle.tar.zst`,
      manifestJson: '{"name":"invoice-tools","publisher":"acme","version":"1.2.3","runtime":"wasm-js@1"}',
      signature: { algorithm: 'ed25519', text: 'bm90IGEgcmVhbCBzaWduYXR1cmUsIG9ubHkgNjQgYnl0ZXMgbG9uZyBsaWtlIG9uZSBvZiB0aGVtIGlzIC4uLg==' }
    },
    { key: `${stagingKey}/model.onnx`, manifestJson: '{"name":"sharpen","version":1,"task":"image-to-image"}' }
  ]
})
export type FinalizeBody = Static<typeof FinalizeBody>

export const FinalizeAnswer = Type.Object({
  contentHash: Sha256,
  canonicalKey: Type.String(),
  size: Size,
  contentType: Type.String(),
  deduplicated: Type.Boolean({ description: 'the bytes were there already' }),
  extension: Type.Optional(Type.Object({ id: Type.String(), name: Type.String(), publisher: Type.Optional(Type.String()) })),
  version: Type.Optional(Type.Object({ id: Type.String(), version: Type.String() })),
  model: Type.Optional(Type.Object({ name: Type.String(), version: Type.String() })),
  manifestKey: Type.Optional(Type.String()),
  signature: Type.Optional(Type.Object({
    required: Type.Boolean(),
    verified: Type.Boolean(),
    algorithm: Type.Optional(Type.String()),
    key: Type.Optional(Type.String({ description: 'sha256 of the public key that verified' })),
    subject: Type.Optional(Type.String({ description: 'x509: whose certificate it was' }))
  }))
}, { description: 'the object is immutable at its sha256', examples: [
  { contentHash: sha256, canonicalKey: `sha256/${sha256}/object`, size: 5, contentType: 'application/octet-stream', deduplicated: false },
  {
    contentHash: sha256, canonicalKey: `sha256/${sha256}/bundle.tar.zst`, size: 5, contentType: 'application/zstd', deduplicated: false,
    extension: { id: '6f1c2a5e-0f0b-4e36-9f0c-2f6f3a1d7b11', name: 'invoice-tools', publisher: 'acme' },
    version: { id: 'c1a3a1f0-5b1d-4a52-8a5e-6f5a0d3c9e22', version: '1.2.3' },
    manifestKey: `sha256/${sha256}/manifest.json`,
    signature: { required: true, verified: true, algorithm: 'ed25519', key: sha256 }
  },
  {
    contentHash: sha256, canonicalKey: `sha256/${sha256}/model.onnx`, size: 5, contentType: 'application/octet-stream', deduplicated: false,
    model: { name: 'sharpen', version: '1' }, manifestKey: `sha256/${sha256}/manifest.json`
  }
] })

export const AbortBody = Type.Object({
  key: Type.String({ maxLength: 1024 }),
  reason: Type.Optional(Type.String({ maxLength: ABORT_REASON_MAX_CHARACTERS, pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$', description: 'logged; no control characters' }))
}, { additionalProperties: false, examples: [{ key: `${stagingKey}/object`, reason: 'cancelled by the user' }] })
export type AbortBody = Static<typeof AbortBody>

export const AbortAnswer = Type.Object({
  status: Type.Enum(['deleted', 'noop']),
  key: Type.String(),
  area: Type.Enum(['staging', 'canonical'])
}, { description: 'deleted, or nothing to do for what is not staged', examples: [
  { status: 'deleted', key: `${stagingKey}/object`, area: 'staging' },
  { status: 'noop', key: `sha256/${sha256}/object`, area: 'canonical' }
] })
