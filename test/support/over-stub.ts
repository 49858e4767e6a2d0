/** The whole service over the scriptable S3 server, with one upload slot, so that a slot that is not given back is seen. */
import assert from 'node:assert/strict'
import type { Test } from 'tap'
import { nothingLeft } from './nothing-left.ts'
import { eventually } from './raw-client.ts'
import { startS3Stub, type S3Stub, type S3StubOptions } from './s3-stub.ts'
import { startApp, type Answer, type StartedApp } from './start-app.ts'

export interface OverStub { app: StartedApp, stub: S3Stub }

export function s3Env(s3: Pick<S3Stub, 'endpoint' | 'bucket' | 'accessKeyId' | 'secretAccessKey'>): Record<string, string> {
  return { OBJECT_STORE: 's3', S3_ENDPOINT: s3.endpoint, S3_BUCKET: s3.bucket, S3_ACCESS_KEY_ID: s3.accessKeyId, S3_SECRET_ACCESS_KEY: s3.secretAccessKey }
}

export async function startOverStub(t: Test, env: Record<string, string> = {}, options: S3StubOptions & { prepare?: (stub: S3Stub) => void } = {}): Promise<OverStub> {
  const stub = await startS3Stub(options)
  t.teardown(() => stub.close())
  options.prepare?.(stub)
  const app = await startApp(t, { ...s3Env(stub), MAX_CONCURRENT_UPLOADS: '1', ...env })
  return { app, stub }
}

/** The answer is this failure of the flat dialect. */
export function isFailure(t: Test, answer: Answer, status: number, code: string, why?: string): void {
  t.equal(answer.status, status, code)
  t.equal(answer.body?.code, code)
  if (why !== undefined) t.equal(answer.headers.get('x-upload-proxy-why'), why)
}

/** Nothing is left, no slot is taken, and a whole upload with its finalize works. Returns nothing that stays. */
export async function goesOn(t: Test, { app, stub }: OverStub, kept: string[] = []): Promise<void> {
  await nothingLeft(app, kept)
  t.equal(stub.uploads.size, 0, 'no multipart upload is left')
  const upload = await uploadFreely(app)
  t.equal(upload.status, 200, 'the next upload has a slot and succeeds')
  const finalized = await app.post('/finalize', { key: upload.body.upload.key })
  t.equal(finalized.status, 200, 'and is finalized')
  await nothingLeft(app, [...kept, finalized.body.canonicalKey])
}

/** A slot comes back a moment after the answer of its upload. */
async function uploadFreely(app: StartedApp): Promise<Answer> {
  let answer: Answer | undefined
  await eventually(async () => {
    answer = await app.upload(Buffer.from('goes on'))
    assert.notEqual(answer.body.code, 'SERVICE_BUSY')
  })
  return answer!
}
