/** `npm run minio`, as a developer and as the tests use it. */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { parseEnv } from 'node:util'
import t, { type Test } from 'tap'
import { readConfig } from '../../src/config.ts'
import { s3ObjectStore } from '../../src/objects/s3.ts'
import { minioOrSkip } from '../support/minio.ts'
import { text } from '../contract/object-store.ts'

const SCRIPT = join(import.meta.dirname, '../../scripts/minio.ts')

const minio = await minioOrSkip(t, { own: true })
if (minio?.own) {
  const { own } = minio

  t.test('it prints lines for .env that the service can run with, and ends with a signal', async t => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const { child, env } = await start(t)
      const config = readConfig({ ...env, NODE_ENV: 'test' })
      const store = s3ObjectStore({
        endpoint: config.S3_ENDPOINT, region: config.S3_REGION, bucket: config.S3_BUCKET!, accessKeyId: config.S3_ACCESS_KEY_ID!,
        secretAccessKey: config.S3_SECRET_ACCESS_KEY!, forcePathStyle: config.S3_FORCE_PATH_STYLE, maxSockets: 2
      })
      await store.check()
      await store.close()
      child.kill(signal)
      t.same(await once(child, 'exit'), [0, null])
      t.equal(await answers(env.S3_ENDPOINT!), false)
    }
  })

  t.test('when it is killed, no server stays behind', async t => {
    const { child, env } = await start(t)
    child.kill('SIGKILL')
    for (let tries = 0; await answers(env.S3_ENDPOINT!); tries++) {
      if (tries === 100) return t.fail('the server still answers')
      await delay(50)
    }
    t.pass()
  })

  t.test('a server that is killed comes back with what it had acknowledged', async t => {
    const store = s3ObjectStore({ ...own, region: 'us-east-1', forcePathStyle: true, maxSockets: 2 })
    t.teardown(() => store.close())
    await store.put('k', Buffer.from('bytes'), { size: 5 })
    const { pid } = own
    await own.kill('SIGKILL')
    t.equal(await answers(own.endpoint), false)
    await own.restart()
    t.not(own.pid, pid)
    t.equal(await text(store, 'k'), 'bytes')
  })
}

async function start(t: Test): Promise<{ child: ChildProcessByStdio<null, Readable, null>, env: NodeJS.Dict<string> }> {
  const data = await mkdtemp(join(tmpdir(), 'penstock-minio-'))
  t.teardown(() => rm(data, { recursive: true, force: true }))
  const child = spawn(process.execPath, [SCRIPT, '--data', data], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    output += String(chunk)
    if (output.includes('S3_FORCE_PATH_STYLE')) break
  }
  return { child, env: parseEnv(output) }
}

async function answers(endpoint: string): Promise<boolean> {
  const answer = await fetch(`${endpoint}/minio/health/live`).catch(() => undefined)
  await answer?.body?.cancel()
  return answer !== undefined
}
