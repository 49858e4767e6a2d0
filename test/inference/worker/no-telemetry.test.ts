import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { MODELS } from '../../../scripts/make-models.ts'

const source = join(import.meta.dirname, '../../../src')
const script = `
  import { loadSession } from ${JSON.stringify(pathToFileURL(join(source, 'inference/worker/session.ts')).href)}
  const session = await loadSession(${JSON.stringify(join(MODELS, 'edges/1/model.onnx'))}, { provider: 'cpu', intraOpNumThreads: 1 })
  await session.run([{ name: 'image', datatype: 'FP32', shape: [1, 3, 1, 1], data: new Uint8Array(12) }])
  await session.release()`
/** The worker thread's environment is a copy, so that it is the importer's that counts. */
const threaded = `
  import { openChannel } from ${JSON.stringify(join(source, 'inference/pool/channel.ts'))}
  const thread = openChannel({ isolation: 'thread', env: {}, onMessage() {}, onLine: console.error, entry: new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(script)})) })
  process.exitCode = Number((await thread.ended) !== 'exit code 0')`

for (const [name, code] of [['a process', script], ['a thread', threaded]] as const) {
  t.test(`ONNX Runtime in ${name} keeps no record of what is run, and sends none`, async t => {
    const home = await mkdtemp(join(tmpdir(), 'penstock-home-'))
    t.teardown(() => rm(home, { recursive: true, force: true }))
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { env: { HOME: home, TMPDIR: home, PATH: '/usr/bin:/bin' }, stdio: 'inherit' })
    t.same(await once(child, 'exit'), [0, null])
    t.same(await readdir(home, { recursive: true }), [])
  })
}
