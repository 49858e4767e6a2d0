import t from 'tap'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { checkManifest } from '../../../src/inference/manifest.ts'
import { checkParams, taskNamed, taskNames } from '../../../src/inference/tasks/index.ts'

const check = (task: string, params: unknown) => checkParams(taskNamed(task)!, params)

function issuesOf(more: object): object[] {
  const checked = checkManifest({ name: 'm', version: 1, task: 'image-to-image', ...more })
  return 'issues' in checked ? checked.issues : []
}

t.test('tasks are found by their names', async t => {
  t.same(taskNames(), ['tensor', 'image-classification', 'image-to-image', 'embedding', 'video-to-video', 'exec'])
  for (const name of taskNames()) t.equal(taskNamed(name)?.name, name)
  for (const name of ['', 'Tensor', 'toString', 'video']) t.equal(taskNamed(name), undefined)
})

t.test('params are held against the task\'s schema, and what is wrong is named', async t => {
  t.same(check('image-classification', { top_k: 3, softmax: true, fit: 'fill' }), [])
  for (const task of taskNames()) {
    t.same(check(task, {}), [], task)
    t.match(check(task, []), [{ field: 'params' }], `${task}: an array`)
    t.match(check(task, 'x'), [{ field: 'params' }])
    t.same(check(task, { nonsense: { a: { b: { c: [[[]]] } } } }), [{ field: 'params.nonsense', message: `is no parameter of ${task}` }])
  }
  t.match(check('image-classification', { top_k: 0 }), [{ field: 'params.top_k' }])
  t.match(check('image-classification', { top_k: '5' }), [{ field: 'params.top_k' }])
  t.same(check('image-to-image', { format: 'bmp' }), [{ field: 'params.format', message: 'must be one of png, jpeg, webp' }])
  t.match(check('image-to-image', { tile: 100.5, overlap: -1 }), [{ field: 'params.tile' }, { field: 'params.overlap' }])
  t.match(check('image-to-image', JSON.parse('{"__proto__":{"tile":64}}')), [{ field: 'params.__proto__' }])
})

t.test('a manifest names a task that there is, and one mean and std for each channel', async t => {
  t.same(issuesOf({}), [])
  t.same(issuesOf({ task: 'video' }), [{ path: 'task', message: 'must be one of tensor, image-classification, image-to-image, embedding, video-to-video, exec' }])
  t.same(issuesOf({ input: { channels: 3, mean: [1, 2, 3], std: [1, 2, 3] }, output: { mean: [0] } }), [])
  t.same(issuesOf({ input: { channels: 3, mean: [1, 2], std: [1] } }), [
    { path: 'input.mean', message: 'must have 3 numbers: one for each channel' }, { path: 'input.std', message: 'must have 3 numbers: one for each channel' }
  ])
  t.same(issuesOf({ output: { mean: [1, 2, 3], std: [1] } }), [{ path: 'output.std', message: 'must have 3 numbers: one for each channel' }])
  t.same(issuesOf({ input: { std: [1, 0, 1] } }), [{ path: 'input.std', message: 'must not be 0: it is divided by' }])
})

t.test('who knows the tasks has loaded neither sharp nor ONNX Runtime', async t => {
  const index = join(import.meta.dirname, '../../../src/inference/tasks/index.ts')
  const script = `import ${JSON.stringify(index)}; console.log(JSON.stringify(process.report.getReport().sharedObjects.filter(path => /sharp|onnxruntime/.test(path))))`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  t.equal(stdout.trim(), '[]')
})
