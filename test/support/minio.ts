/**
 * A real MinIO for a test file: the one that PENSTOCK_TEST_S3 names (JSON: endpoint, accessKeyId, secretAccessKey), or one
 * of its own, which ends with the file. Where there is none the tests are skipped, saying so, unless PENSTOCK_REQUIRE
 * lists `minio`: then it is installed, or the tests fail.
 */
import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { createBucket, findMinio, startMinio, type Minio } from '../../scripts/servers/minio.ts'

export interface TestS3 {
  endpoint: string
  accessKeyId: string
  secretAccessKey: string
  /** A fresh bucket. */
  bucket(): Promise<string>
  /** The server, where it belongs to this file: it can be killed and restarted. */
  own: Minio | undefined
}

export function isRequired(what: string): boolean {
  return (process.env.PENSTOCK_REQUIRE ?? '').split(',').map(each => each.trim()).includes(what)
}

/**
 * Call it with the test that needs MinIO, or with the file's `t`. Ends what it started in that test's teardown.
 * @param options.own true: never share one, because the test will kill it
 * @returns undefined where there is none: a skipped test says so, and the caller goes on without
 */
export async function minioOrSkip(t: Test, { own = false }: { own?: boolean } = {}): Promise<TestS3 | undefined> {
  const shared = own ? undefined : process.env.PENSTOCK_TEST_S3
  if (shared !== undefined && shared !== '') return describe(JSON.parse(shared) as Address, undefined)
  if (!isRequired('minio') && await findMinio() === undefined) {
    console.error('SKIPPED: there is no MinIO on this machine; `npm run minio` gets one, PENSTOCK_REQUIRE=minio makes this a failure')
    void t.test('what needs a real MinIO', { skip: 'there is no MinIO on this machine: `npm run minio` gets one' }, () => {})
    return undefined
  }
  const minio = await startMinio()
  t.teardown(() => minio.stop())
  return describe(minio, minio)
}

type Address = Pick<TestS3, 'endpoint' | 'accessKeyId' | 'secretAccessKey'>

function describe({ endpoint, accessKeyId, secretAccessKey }: Address, own: Minio | undefined): TestS3 {
  const address = { endpoint, accessKeyId, secretAccessKey }
  return {
    ...address, own,
    async bucket() {
      const bucket = `test-${randomUUID()}`
      await createBucket({ ...address, bucket })
      return bucket
    }
  }
}
