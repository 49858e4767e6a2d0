/** The servers that tests start: found or not, started, and gone with whoever started them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import assert from 'node:assert/strict'
import t from 'tap'
import { findProgram, provideProgram } from '../../scripts/servers/debian.ts'
import { eventually } from '../support/raw-client.ts'
import { nginxOrSkip } from '../support/nginx.ts'
import { redisOrSkip } from '../support/redis.ts'

const SERVERS = join(import.meta.dirname, '../../scripts/servers')

async function listens(port: number): Promise<boolean> {
  return await new Promise(done => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      done(true)
    })
    socket.once('error', () => done(false))
  })
}

const nginx = await nginxOrSkip(t)
const redis = await redisOrSkip(t, { password: 'sesame' })

t.test('what is nowhere and cannot be got says what to do', async t => {
  const packaged = { name: 'Nowhere', files: ['there-is-no-such-program'], debian: 'there-is-no-such-package' }
  const { PATH } = process.env
  process.env.PATH = ''
  t.teardown(() => { process.env.PATH = PATH })
  t.equal(await findProgram(packaged), undefined)
  await t.rejects(provideProgram(packaged, () => {}), { message: /Nowhere was not found and could not be got: .*no apt-get\nPut there-is-no-such-program on PATH \(Debian and Ubuntu: apt-get install there-is-no-such-package; .*\)/ })
})

if (nginx !== undefined) {
  t.test('nginx serves a folder, with ranges', async t => {
    await writeFile(join(nginx.folder, 'a b.bin'), 'hello')
    const answer = await fetch(`${nginx.url}/a%20b.bin`, { headers: { range: 'bytes=1-2' } })
    t.equal(answer.status, 206)
    t.equal(await answer.text(), 'el')
    t.equal((await fetch(`${nginx.url}/not-there`)).status, 404)
  })
}

if (redis !== undefined) {
  t.test('Redis comes back on its port, empty', async t => {
    const { pid, port } = redis
    t.match(redis.url, `redis://:sesame@127.0.0.1:${port}`)
    await redis.kill('SIGKILL')
    t.equal(await listens(port), false)
    await redis.restart()
    t.not(redis.pid, pid)
    t.equal(await listens(port), true)
  })
}

for (const [name, there] of [['redis', redis], ['nginx', nginx]] as const) {
  if (there === undefined) continue
  t.test(`when a process that started ${name} is killed, no server stays behind`, async t => {
    const start = name === 'redis' ? 'startRedis()).port' : 'startNginx()).url.split(":")[2]'
    const script = `const m = await import(${JSON.stringify(join(SERVERS, `${name}.ts`))}); console.log((await m.${start}); setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => { child.kill('SIGKILL') })
    const [line] = await once(child.stdout, 'data') as [Buffer]
    const port = Number(line.toString())
    t.equal(await listens(port), true)
    child.kill('SIGKILL')
    await eventually(async () => assert.equal(await listens(port), false), 10_000)
  })
}
