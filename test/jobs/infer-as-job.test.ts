import t from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { PenstockError, isPenstockError, type ErrorName } from '../../src/errors.ts'
import { localAdmin } from '../../src/identity/credentials.ts'
import type { WireTensor } from '../../src/inference/port.ts'
import { encodeTensors } from '../../src/inference/tensor-frames.ts'
import { tensorOfJson } from '../../src/inference/tensor-json.ts'
import { inferAsJob, type InferAsJobOptions } from '../../src/jobs/infer-as-job.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import type { FileRecord, JobEvent } from '../../src/records/jobs-port.ts'
import { modelRow } from '../support/model-rows.ts'
import { eventually } from '../support/raw-client.ts'

type Jobs = InferAsJobOptions['jobs']
type Request = Parameters<Jobs['createInference']>[1]

const KEY = `sha256/${'a'.repeat(64)}/object`
const x = tensorOfJson({ name: 'x', datatype: 'INT64', shape: [2], data: [9007199254740993n, -1] })
const event = (name: JobEvent['event'], data: Record<string, unknown> = {}): JobEvent => ({ seq: 1, event: name, data, createdAt: 0 })

/** Jobs as another node runs them: it says `events`, and `result` lies in the bucket. */
async function setUp(events: (signal: AbortSignal) => AsyncIterable<JobEvent>, { result = Buffer.alloc(0), timeoutMs = 10_000, maxBytes = 10_000, create }: { result?: Buffer, timeoutMs?: number, maxBytes?: number, create?: Jobs['createInference'] } = {}) {
  const store = memoryObjectStore()
  await store.createBucket()
  await store.put(KEY, result, { size: result.length, contentType: 'application/vnd.penstock.tensors' })
  const asked: Request[] = []
  const removed: string[] = []
  const jobs: Jobs = {
    createInference: create ?? (async (_principal, request) => {
      asked.push(request)
      return {
        id: 'j-1',
        watch: events,
        async result(name) {
          if (name !== 'output.tensors') throw new PenstockError('RESULT_NOT_FOUND')
          return { key: KEY, size: result.length } as FileRecord
        },
        async remove() { removed.push('j-1') }
      }
    })
  }
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  const infer = inferAsJob({ jobs, store, timeoutMs, maxBytes, log })
  const run = (outputs?: string[], signal = new AbortController().signal): Promise<WireTensor[]> =>
    infer({ principal: localAdmin, model: modelRow({ version: '3' }), tensors: [x], ...(outputs && { outputs }), signal })
  return { asked, removed, run }
}

async function* completes(): AsyncGenerator<JobEvent> {
  yield event('generation_started')
  yield event('generation_progress', { progress: 50 })
  yield event('generation_complete')
}

async function* waits(signal: AbortSignal): AsyncGenerator<JobEvent> {
  yield event('generation_started')
  await delay(60_000, undefined, { signal }).catch(() => {})
}

const RESULT = encodeTensors(['y', 'z'].map(name => ({ ...x, name })))

t.test('the result of its job is read back exactly, and the job is gone afterwards', async t => {
  const { asked, removed, run } = await setUp(completes, { result: RESULT })
  const tensors = await run(['z', 'y'])
  t.same(tensors.map(({ data, ...rest }) => ({ ...rest, data: [...data] })), ['z', 'y'].map(name => ({ ...x, name, data: [...x.data] })), 'what was asked for, in that order')
  t.match(asked, [{ model: { name: 'identity', version: '3' } }])
  t.same(asked[0]?.tensors, [x])
  await eventually(() => t.same(removed, ['j-1']))
  t.same((await run()).map(({ name }) => name), ['y', 'z'], 'all without a choice')
})

t.test('a job that fails is what its failure says, and is gone afterwards', async t => {
  for (const [code, expected, message] of [
    ['invalid_input', 'BAD_REQUEST', 'no such axis'], ['invalid_model', 'INVALID_MODEL', 'no such axis'], ['timeout', 'INFERENCE_TIMEOUT', undefined],
    ['worker_lost', 'SERVICE_BUSY', undefined], ['something_new', 'INTERNAL_ERROR', undefined]
  ] as const) {
    const { removed, run } = await setUp(async function* () { yield event('generation_failed', { error: { code, message: 'no such axis' } }) })
    await t.rejects(run(), { code: expected, ...(message && { message }) }, code)
    await eventually(() => t.same(removed, ['j-1']))
  }
  for (const end of ['generation_cancelled', undefined] as const) {
    const { run } = await setUp(async function* () { if (end !== undefined) yield event(end) })
    await t.rejects(run(), { code: 'SERVICE_BUSY' }, String(end))
  }
})

t.test('time that is over is 504, and the job goes; so it does when the client is gone', async t => {
  const slow = await setUp(waits, { timeoutMs: 30 })
  await t.rejects(slow.run(), { code: 'INFERENCE_TIMEOUT' })
  await eventually(() => t.same(slow.removed, ['j-1']))
  const client = new AbortController()
  const left = await setUp(waits)
  const running = left.run(undefined, client.signal)
  setImmediate(() => client.abort())
  await t.rejects(running, { code: 'SERVICE_BUSY' })
  await eventually(() => t.same(left.removed, ['j-1']))
})

t.test('a job that cannot be made says why, as any other', async t => {
  for (const code of ['QUEUE_FULL', 'INSUFFICIENT_SCOPE'] satisfies ErrorName[]) {
    const { removed, run } = await setUp(completes, { create: async () => { throw new PenstockError(code) } })
    await t.rejects(run(), { code })
    t.same(removed, [])
  }
})

t.test('a result that is too large, or not what was asked for, is refused', async t => {
  const large = await setUp(completes, { result: RESULT, maxBytes: 50 })
  await t.rejects(large.run(), { code: 'PAYLOAD_TOO_LARGE' })
  const other = await setUp(completes, { result: RESULT })
  await other.run(['v']).then(() => t.fail('it was there'), (error: unknown) => t.ok(isPenstockError(error, 'INTERNAL_ERROR')))
})
