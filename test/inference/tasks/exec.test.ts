/** Commands of EXEC_TASKS_FILE: what they may do, and how they end. Each is a real process. */
import t from 'tap'
import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { readExecTasks } from '../../../src/inference/exec-tasks.ts'
import type { ModelRef } from '../../../src/inference/port.ts'
import { eventually } from '../../support/raw-client.ts'
import { isAlive } from '../../support/scripted-pool.ts'
import { resultsOf, startTestWorker, type TestWorker } from '../../support/worker.ts'

const model = (name: string): ModelRef => ({ name, version: '1', sha256: '', key: '', size: 0, task: 'exec', manifest: {} })
const node = (script: string, ...args: string[]): string[] => [process.execPath, '-e', script, ...args]
const begin = 'const fs = require("fs"); const [input, output] = process.argv.slice(1);'

async function start(t: Test, commands: Record<string, { script?: string, argv?: string[], limits?: object }>): Promise<TestWorker> {
  const tasks = Object.entries(commands).map(([name, { script, argv, limits }]) => ({ name, argv: argv ?? node(`${begin} ${script}`, '{input}', '{output}'), ...(limits !== undefined && { limits }) }))
  return await startTestWorker(t, { execTasks: { tasks } })
}

const run = async (worker: TestWorker, name: string, content = 'hello', id = name) => await worker.run('exec', model(name), [await worker.put(content)], { id })
const progressOf = (worker: TestWorker, id: string) => worker.said.flatMap(message => (message.type === 'progress' && message.id === id ? [message] : []))

t.test('a command reads its input, and every file that it writes becomes a result', async t => {
  const worker = await start(t, { upper: { script: 'fs.writeFileSync(output + "/b.txt", fs.readFileSync(input, "utf8").toUpperCase()); fs.writeFileSync(output + "/a.bin", "")' } })
  const results = resultsOf(await run(worker, 'upper'))
  t.match(results, [{ name: 'a.bin', filename: 'a.bin', size: 0, contentType: 'application/octet-stream' }, { name: 'b.txt', size: 5, contentType: 'text/plain; charset=utf-8' }])
  t.equal((await worker.read(results[1]!)).toString(), 'HELLO')
  t.same(await readdir(worker.settings.workDir), [], 'its folder is gone')
  t.match(await worker.run('exec', model('other'), [await worker.put('x')], { params: { command: 'upper' } }), { type: 'done' }, 'it can be named by a param')
})

t.test('it gets a folder of its own, an environment without anything of ours, and no shell', async t => {
  const worker = await start(t, { look: { script: 'fs.writeFileSync(output + "/seen.json", JSON.stringify({ env: process.env, cwd: process.cwd(), argv: process.argv.slice(1), files: fs.readdirSync(".") }))', argv: node(`${begin} fs.writeFileSync(output + "/seen.json", JSON.stringify({ env: process.env, cwd: process.cwd(), argv: process.argv.slice(1), files: fs.readdirSync(".") }))`, '{input}', '{output}', '$HOME; rm -rf "*" `id` && {output}/x') } })
  const [file] = resultsOf(await worker.run('exec', model('look'), [await worker.put('a'), await worker.put('b', 'image/png', 'ref_images'), await worker.put('c', 'image/png', 'ref_images')]))
  const { env, cwd, argv, files } = JSON.parse((await worker.read(file!)).toString()) as { env: Record<string, string>, cwd: string, argv: string[], files: string[] }
  const own = Object.entries(env).filter(([name, value]) => !name.startsWith('_TAPJS_') && !value.includes('@tapjs')) // what tap puts into every process
  t.same(Object.fromEntries(own), { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: cwd, TMPDIR: cwd, LANG: 'C.UTF-8' })
  t.ok(cwd.startsWith(worker.settings.workDir))
  t.same(argv, [join(cwd, 'input'), join(cwd, 'output'), `$HOME; rm -rf "*" \`id\` && ${cwd}/output/x`])
  t.same(files.toSorted(), ['input', 'output', 'ref_images-0', 'ref_images-1'])
})

t.test('lines of JSON tell of its progress; what is none is passed over', async t => {
  const worker = await start(t, { steps: { script: `
    const lines = ['nonsense', '{"progress":10,"message":"first\\\\u0000 step"}', '[]', 'null', '{"progress":"x"}', 'x'.repeat(1e6), '{"progress":1e9}'];
    fs.writeFileSync(output + '/done', '');
    (async () => { for (const line of lines) { process.stdout.write(line + '\\n'); await new Promise(r => setTimeout(r, 80)) } })()` } })
  resultsOf(await run(worker, 'steps'))
  t.match(progressOf(worker, 'steps'), [{ stage: 'inference', progress: 10, message: 'first step' }, { progress: 99 }])
})

t.test('a command that fails says why, or how it ended', async t => {
  const worker = await start(t, {
    code: { script: 'fs.writeFileSync(output + "/half", ""); process.exit(3)' }, said: { script: 'console.log(JSON.stringify({ error: "no sound in it" })); process.exit(1)' },
    signal: { script: 'process.kill(process.pid, "SIGTERM"); setTimeout(() => {}, 10000)' }, killed: { script: 'process.kill(process.pid, "SIGKILL"); setTimeout(() => {}, 10000)' }, nothing: { script: '' }
  })
  t.match(await run(worker, 'code'), { type: 'failed', code: 'invalid_input', retryable: false, message: 'the command "code" ended with exit code 3' })
  t.match(await run(worker, 'said'), { code: 'invalid_input', message: 'no sound in it' })
  t.match(await run(worker, 'signal'), { code: 'invalid_input', message: 'the command "signal" ended with SIGTERM' })
  t.match(await run(worker, 'killed'), { code: 'resource_exhausted', retryable: true })
  t.match(await run(worker, 'nothing'), { code: 'invalid_input', message: 'the command wrote no result' })
  t.match(await run(worker, 'unknown'), { code: 'invalid_input', message: 'there is no command "unknown"' })
  t.same(await worker.staged(), [])
  t.same(await readdir(worker.settings.workDir), [])
})

t.test('without EXEC_TASKS_FILE nothing can be run', async t => {
  const worker = await startTestWorker(t)
  t.match(await run(worker, 'anything'), { code: 'invalid_input', message: 'no commands can be run here' })
})

t.test('links, folders and names that are none are no results', async t => {
  const worker = await start(t, {
    link: { script: 'fs.symlinkSync("/etc/passwd", output + "/passwd")' }, folder: { script: 'fs.mkdirSync(output + "/sub"); fs.writeFileSync(output + "/sub/file", "")' },
    replaced: { script: 'fs.rmdirSync(output); fs.symlinkSync("/etc", output)' }, named: { script: 'fs.writeFileSync(output + "/a\\nb", "")' }
  })
  t.match(await run(worker, 'link'), { code: 'invalid_input', message: 'the command wrote "passwd", which is a link: only files become results' })
  t.match(await run(worker, 'folder'), { code: 'invalid_input', message: /"sub", which is a folder/ })
  t.match(await run(worker, 'replaced'), { code: 'invalid_input', message: /no folder of its own/ })
  t.match(await run(worker, 'named'), { code: 'invalid_input', message: /whose name is none/ })
  t.same(await worker.staged(), [])
})

t.test('its limits hold: bytes, files, time', async t => {
  const worker = await start(t, {
    large: { script: 'fs.writeFileSync(output + "/a", Buffer.alloc(2000))', limits: { maxOutputBytes: 1000 } },
    elsewhere: { script: 'fs.writeFileSync("scratch", Buffer.alloc(1e6)); setTimeout(() => {}, 60000)', limits: { maxOutputBytes: 1000 } },
    endless: { script: 'const fd = fs.openSync(output + "/a", "w"); setInterval(() => fs.writeSync(fd, Buffer.alloc(1e5)), 5)', limits: { maxOutputBytes: 1_000_000 } },
    many: { script: 'for (let i = 0; i < 10; i++) fs.writeFileSync(output + "/" + i, "")', limits: { maxFiles: 9 } },
    slow: { script: 'setTimeout(() => {}, 60000)', limits: { timeoutMs: 300 } },
    allowed: { script: 'for (let i = 0; i < 9; i++) fs.writeFileSync(output + "/" + i, Buffer.alloc(100))', limits: { maxFiles: 9, maxOutputBytes: 900 } }
  })
  for (const name of ['large', 'elsewhere']) t.match(await run(worker, name), { code: 'invalid_input', message: 'the command wrote more than 1000 bytes' }, name)
  t.match(await run(worker, 'endless'), { code: 'invalid_input', message: 'the command wrote more than 1000000 bytes' })
  t.match(await run(worker, 'many'), { code: 'invalid_input', message: 'the command wrote more than 9 files' })
  t.match(await run(worker, 'slow'), { code: 'timeout', message: 'the command took longer than 300 ms' })
  t.equal(resultsOf(await run(worker, 'allowed')).length, 9)
})

/** The command, and a child of it that would outlive it, write their ids. */
const FAMILY = `const child = require('child_process').spawn(process.execPath, ['-e', 'process.on("SIGTERM", () => {}); setTimeout(() => {}, 600000)'], { stdio: 'ignore' });
  child.unref(); console.log(JSON.stringify({ progress: 1, message: process.pid + ' ' + child.pid }));`

async function family(worker: TestWorker, id: string): Promise<number[]> {
  await eventually(() => assert.equal(progressOf(worker, id).length, 1), 10_000)
  return progressOf(worker, id)[0]!.message!.split(' ').map(Number)
}

t.test('a cancel, and an end, take everything along that the command has started', async t => {
  const worker = await start(t, { waits: { script: `${FAMILY} setTimeout(() => {}, 600000)` }, ends: { script: `${FAMILY} fs.writeFileSync(output + '/done', '')` } })
  const waiting = run(worker, 'waits')
  const pids = await family(worker, 'waits')
  t.ok(pids.every(isAlive))
  worker.tell({ type: 'cancel', id: 'waits' })
  t.match(await waiting, { type: 'failed', code: 'cancelled' })
  await eventually(() => assert.ok(!pids.some(isAlive)), 5000)
  resultsOf(await run(worker, 'ends'))
  const others = await family(worker, 'ends')
  await eventually(() => assert.ok(!others.some(isAlive)), 5000)
})

t.test('what has left the group of the command is not waited for, though it holds the output open', async t => {
  const worker = await start(t, { leaves: { script: `
    const child = require('child_process').spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)'], { stdio: ['ignore', 'inherit', 'inherit'], detached: true });
    console.log(JSON.stringify({ progress: 1, message: String(child.pid) })); fs.writeFileSync(output + '/done', ''); child.unref()` } })
  const running = run(worker, 'leaves')
  const [pid] = await family(worker, 'leaves')
  t.teardown(() => process.kill(pid!, 'SIGKILL'))
  const startedAt = performance.now()
  t.equal(resultsOf(await running).length, 1)
  t.ok(performance.now() - startedAt < 20_000)
})

t.test('EXEC_TASKS_FILE is checked as a whole, and everything that is wrong is named', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-exec-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'tasks.json')
  const reading = async (value: unknown) => {
    await writeFile(file, typeof value === 'string' ? value : JSON.stringify(value))
    return await readExecTasks(file)
  }
  const good = { tasks: [{ name: 'a', argv: ['/bin/sh', '{input}'], limits: { timeoutMs: 5 } }] }
  t.same(await reading(good), good)
  t.same(await reading({ tasks: [] }), { tasks: [] })
  for (const [value, message] of [
    ['{', /not valid JSON/], [[], /must be object/], [{}, /tasks is required/], [{ tasks: [{ name: 'a b', argv: [] }] }, /tasks.0.name[^]*tasks.0.argv/],
    [{ tasks: [{ name: 'a', argv: ['sh'] }] }, /must be an absolute path, not 'sh'/], [{ tasks: [{ name: 'a', argv: ['/nowhere/x'] }] }, /no program that can be run/], [{ tasks: [{ name: 'a', argv: [folder] }] }, /no program/],
    [{ tasks: [...good.tasks, ...good.tasks] }, /the name "a" is there twice/], [{ tasks: [{ ...good.tasks[0], shell: true }] }, /tasks.0.shell is no key/], [{ tasks: [{ ...good.tasks[0], limits: { timeoutMs: 0 } }] }, /limits.timeoutMs/]
  ] as const) await t.rejects(reading(value), { message }, String(message))
  await rm(file)
  await t.rejects(readExecTasks(file), { message: /cannot be read \(ENOENT\)/ })
  await writeFile(file, Buffer.alloc(2_000_000, ' '))
  await t.rejects(readExecTasks(file), { message: /more than 1048576 bytes/ })
  t.equal((await readFile(file)).length, 2_000_000)
})
