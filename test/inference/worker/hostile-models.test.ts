/** ONNX files that are broken, or meant to do harm: refused with a reason, before or by the runtime, and none stays in the cache. */
import t from 'tap'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bytes, integer, message, string, type Field } from '../../../scripts/onnx/protobuf.ts'
import { encodeModel } from '../../../scripts/onnx/model.ts'
import { oneNode, identityOf } from '../../support/graphs.ts'
import { sha256Of, startTestWorker } from '../../support/worker.ts'

const worker = await startTestWorker(t)

async function check(file: Uint8Array) {
  const { key, sha256, size } = await worker.model(file)
  return await worker.order({ type: 'check', id: `check ${sha256}`, key, sha256, size, manifest: { name: 'm', version: 1, task: 'tensor' } })
}

const value = (name: string): Field[] => [string(1, name), message(2, [message(1, [integer(1, 1), message(2, [message(1, [integer(1, 2)])])])])]
const model = (...graph: Field[]): Uint8Array => Buffer.concat([integer(1, 8), message(7, [...graph, string(2, 'g'), message(11, value('x')), message(12, value('y'))]), message(8, [string(1, ''), integer(2, 17)])])
const add = message(1, [string(1, 'x'), string(1, 'w'), string(2, 'y'), string(4, 'Add')])
const entry = (key: string, text: string): Field => message(13, [string(1, key), string(2, text)])
const weights = (...more: Field[]): Field[] => [integer(1, 2), integer(2, 1), string(8, 'w'), ...more]
const constant = (tensor: Field[]): Field => message(1, [string(2, 'w'), string(4, 'Constant'), message(5, [string(1, 'value'), message(5, tensor), integer(20, 4)])])
const inIf = (tensor: Field[]): Field => message(1, [string(1, 'c'), string(2, 'w'), string(4, 'If'), message(5, [string(1, 'then_branch'), message(6, [message(5, tensor)]), integer(20, 5)])])

t.test('the test\'s own model loads', async t => {
  t.match(await check(model(message(5, weights(bytes(9, Buffer.alloc(8)))), add)), { type: 'done' })
})

t.test('a model that reads files of this machine is refused, wherever in it that is said', async t => {
  await mkdir(worker.settings.modelCacheDir, { recursive: true })
  await writeFile(join(worker.settings.modelCacheDir, 'weights.bin'), Buffer.alloc(8))
  for (const location of ['/etc/passwd', '../../etc/passwd', 'weights.bin']) {
    const external = weights(entry('location', location), integer(14, 1))
    for (const [where, file] of Object.entries({
      'an initializer': model(message(5, external), add),
      'an initializer without the mark': model(message(5, weights(entry('location', location))), add),
      'the mark alone': model(message(5, weights(integer(14, 1))), add),
      'a constant': model(constant(external), add),
      'a branch': model(inIf(external), add),
      'a sparse initializer': model(message(15, [message(1, external), integer(3, 2)]), add),
      'the indices of a sparse one': model(message(15, [message(2, external), integer(3, 2)]), add),
      'a function': Buffer.concat([model(add), message(25, [constant(external).length > 0 ? message(7, [message(5, [message(5, external)])]) : add])]),
      'what trains it': Buffer.concat([model(add), message(20, [message(1, [message(5, external)])])]),
      'a second graph': Buffer.concat([model(message(5, weights(bytes(9, Buffer.alloc(8)))), add), message(7, [message(5, external)])])
    })) t.match(await check(file), { type: 'failed', code: 'invalid_model', message: /external data/ }, `${location} in ${where}`)
  }
})

t.test('a tensor larger than its file is refused before any memory is asked for', async t => {
  for (const [name, file] of Object.entries({
    'huge': model(message(5, [integer(1, 1_000_000), integer(1, 1_000_000), integer(2, 1), string(8, 'w')]), add),
    'packed': model(message(5, [bytes(1, Buffer.from('80a0943a80a0943a', 'hex')), integer(2, 1), string(8, 'w')]), add),
    'overflowing': model(message(5, [...Array.from({ length: 5 }, () => integer(1, 2n ** 62n)), integer(2, 1), string(8, 'w')]), add),
    'negative': model(message(5, [integer(1, -5), integer(2, 1), string(8, 'w')]), add),
    'sparse': model(message(15, [message(1, weights(bytes(9, Buffer.alloc(8)))), integer(3, 1_000_000), integer(3, 1_000_000)]), add)
  })) t.match(await check(file), { type: 'failed', code: 'invalid_model', message: /a tensor in it claims/ }, name)
  t.match(await check(encodeModel(identityOf('float', [100_000, 100_000, 10]))), { code: 'invalid_model', message: /declared with the shape \[100000, 100000, 10\]/ })
})

t.test('what is no model, or only a part of one, is refused', async t => {
  const whole = encodeModel(oneNode('Add', { type: 'float', shape: ['n'] }, undefined, { constants: [{ name: 'w', shape: [1], data: [1] }] }))
  t.match(await check(whole), { type: 'done' })
  t.match(await check(Buffer.alloc(100)), { type: 'failed', code: 'invalid_model' }, 'zeros')
  t.match(await check(Buffer.alloc(0)), { type: 'failed', code: 'invalid_model', message: 'the file is empty' })
  for (const text of ['hello', '<html></html>', 'ORTM'.repeat(10), 'GIF89a']) t.match(await check(Buffer.from(text)), { type: 'failed', code: 'invalid_model' }, text)
  for (let length = 1; length < whole.length; length += 1) {
    const answer = await check(whole.subarray(0, length))
    if (answer.type !== 'failed' || answer.code !== 'invalid_model') t.fail(`the first ${length} bytes: ${JSON.stringify(answer)}`)
  }
  t.notMatch(await check(whole.subarray(0, whole.length - 20)), { message: /\/tmp|onnxruntime_src/ })
})

t.test('what the runtime does not know is told in its words', async t => {
  t.match(await check(encodeModel(oneNode('Nonsense', { type: 'float', shape: ['n'] }))), { code: 'invalid_model', message: /Nonsense/ })
  t.match(await check(encodeModel({ ...oneNode('Add', { type: 'float', shape: ['n'] }), nodes: [{ op: 'Add', inputs: ['x', 'nowhere'], outputs: ['y'] }] })), { code: 'invalid_model', message: /nowhere/ })
  t.match(await check(encodeModel({ ...identityOf('float', ['n']), nodes: [{ op: 'EPContext', inputs: ['x'], outputs: ['y'] }] })), { code: 'invalid_model', message: /EPContext/ })
})

t.test('messages within messages have an end', async t => {
  let deep: Field[] = []
  for (let depth = 0; depth < 300; depth += 1) deep = [message(1, [message(5, [message(6, deep)])])]
  t.match(await check(model(...deep)), { code: 'invalid_model', message: /nested more than 100 deep/ })
})

t.test('bytes that were changed by chance never end the worker', async t => {
  const whole = encodeModel(oneNode('Add', { type: 'float', shape: ['n'] }, undefined, { constants: [{ name: 'w', shape: [1], data: [1] }] }))
  let state = 7
  for (let round = 0; round < 150; round += 1) {
    const file = Buffer.from(whole)
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    file[state % file.length] = state >>> 16
    t.match(await check(file), { type: /done|failed/ })
  }
})

t.test('none of them stays in the cache', async t => {
  const bad = model(message(5, weights(integer(14, 1))), add)
  await check(bad)
  t.notOk((await readdir(worker.settings.modelCacheDir)).includes(`${sha256Of(bad)}.onnx`))
  t.notOk((await readdir(worker.settings.modelCacheDir)).some(name => name.endsWith('.part')))
})
