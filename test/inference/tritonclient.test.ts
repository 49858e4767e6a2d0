/** Triton's HTTP client for Python, unchanged, against a running service; answers are compared with ONNX Runtime's own in Python. */
import t from 'tap'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pythonOrSkip } from '../support/python.ts'
import { startService } from '../support/service-process.ts'

const script = (name: string): string => join(import.meta.dirname, 'python', name)

const python = await pythonOrSkip(t)
if (python !== undefined) {
  await t.test('Triton\'s client finds its server, and gets from it what ONNX Runtime says', async t => {
    const models = await mkdtemp(join(tmpdir(), 'penstock-models-'))
    t.teardown(() => rm(models, { recursive: true, force: true }))
    await python(script('make_models.py'), models)
    const service = await startService(t, { MODELS_DIR: models, ROLES: 'api,worker', WORKERS: '1', DEVICE: 'cpu' })
    const found = await python(script('triton_client.py'), `127.0.0.1:${service.port}`, models) as Record<string, unknown>

    t.match(found, { live: true, ready: true, server: { name: 'penstock', extensions: ['binary_tensor_data', 'model_repository'] } })
    t.same(found.models, [true, true, false, false])
    t.same(found.metadata, {
      name: 'layer', versions: ['1', '2'], platform: 'onnx_onnxv1',
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }],
      outputs: [{ name: 'scores', datatype: 'FP32', shape: [-1, 3] }, { name: 'best', datatype: 'INT64', shape: [-1] }],
      properties: { task: 'tensor', params: { type: 'object', properties: {}, additionalProperties: false } }
    })
    t.same(found.types, { json: [true, []], binary: [true, []], mixed: [true, []], 'mixed back': [true, []] }, 'ids, and outputs that differ: none of any type')
    t.same(found.layer, {
      'None True': true, 'None False': true, 'gzip True': true, 'gzip False': true, 'deflate True': true, 'deflate False': true,
      'one output of version 1': true, async: true
    })
    t.match(found.refusals, {
      model: ['404', 'model "nobody" is not here, or not loaded'],
      version: ['404', 'model "layer" version "9" is not here, or not loaded'],
      datatype: ['400', 'input "x" is FP64, but the model takes FP32'],
      shape: ['400', 'input "x" has shape [1, 5], but the model takes [-1, 4]'],
      name: ['400', '"z" is no input of this model: it has "x"'],
      output: ['400', '"z" is no output of this model: it has "scores", "best"'],
      nan: ['400', /has no NaN/],
      'too large': ['413', 'the body is over the limit of 16777216 bytes'],
      bomb: ['413', 'the body is over the limit of 16777216 bytes'],
      'shared memory': ['404', 'there is no such route'],
      config: ['400', /config is not supported/],
      unload: ['403', 'the credential lacks a required scope']
    })
    t.match(found.repository, {
      index: [{ name: 'layer', version: '2', state: 'READY' }, { name: 'layer', version: '1', state: 'READY' }, { name: 'types', version: '1.0.0', state: 'READY' }],
      unloaded: [false, ['404', 'model "layer" is not here, or not loaded']], loaded: true
    })
  })

  await t.test('the example of how to bring a model is one that loads, and does what it says', async t => {
    const models = await mkdtemp(join(tmpdir(), 'penstock-models-'))
    t.teardown(() => rm(models, { recursive: true, force: true }))
    await python(join(import.meta.dirname, '../../scripts/export-model.py'), models)
    const service = await startService(t, { MODELS_DIR: models, ROLES: 'api,worker', WORKERS: '1', DEVICE: 'cpu' })
    const grey = Array.from({ length: 3 * 4 * 4 }, () => 0.5)
    const even = await service.call('/v2/models/sharpen/infer', JSON.stringify({ inputs: [{ name: 'image', datatype: 'FP32', shape: [1, 3, 4, 4], data: grey }] }), { 'content-type': 'application/json' })
    t.same(even.body.outputs?.[0]?.data, grey, 'what is even stays so, up to the edge')
  })
}
