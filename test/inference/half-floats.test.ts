import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeModel } from '../../scripts/onnx/model.ts'
import { jsonOfTensor, tensorOfJson } from '../../src/inference/tensor-json.ts'
import { loadSession } from '../../src/inference/worker/session.ts'

const value = (name: string) => ({ name, type: 'float16' as const, shape: ['n'] })

t.test('half floats reach ONNX Runtime, whose binding does not know Float16Array, and come back', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-half-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'model.onnx')
  await writeFile(file, encodeModel({ name: 'same', doc: '', inputs: [value('x')], outputs: [value('y')], nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }] }))
  const session = await loadSession(file, { provider: 'cpu', intraOpNumThreads: 1 })
  t.teardown(() => session.release())
  const [y] = await session.run([tensorOfJson({ name: 'x', datatype: 'FP16', shape: [3], data: [1, -2.5, 65504] })])
  t.equal(jsonOfTensor(y!), '{"name":"y","datatype":"FP16","shape":[3],"data":[1,-2.5,65504]}')
})
