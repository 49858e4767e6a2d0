/**
 * How many jobs a second come in, and how many go through, where the model does nothing: what is left is what a job costs
 * itself. API processes take jobs while no worker runs; then one node with workers has them all. How busy the machine was, and how
 * much of that were the API's processes, says where the limit lies: records, store and load generators share the machine.
 */
import { NO_OP_TEMPLATE, ask, completedBehind, drained, queueOf, startJobs } from './job-services.ts'
import type { JobStack } from './job-services.ts'
import type { BenchOptions } from './main.ts'
import { cpuSeconds, machineBusy, median } from './measure.ts'
import { order, startProgram } from './processes.ts'
import type { Running } from './processes.ts'
import type { LoadReport } from './load.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { ADMIN } from './upload.ts'

const APIS = 4

type Row = Record<string, string | number>

/** Returns the body of a job over an object that is there already. */
async function knownInput({ url }: Running): Promise<string> {
  const tensors = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [2], data: [1, 2] }] })
  const response = await fetch(`${url}/upload-proxy?kind=object&filename=input.json&size=${tensors.length}`, { method: 'POST', headers: { ...ADMIN, 'content-type': 'application/json' }, body: tensors })
  const { upload } = await response.json() as { upload: { key: string } }
  const { contentHash } = await ask<{ contentHash: string }>({ url } as Running, '/finalize', { key: upload.key })
  return JSON.stringify({ model: 'identity', cache: false, input: { sha256: contentHash } })
}

interface Enqueue { loads: readonly Running[], apis: readonly Running[], json: string, count: number, parallel: number }

/** Each API gets its part from a load generator of its own. */
async function enqueue({ loads, apis, json, count, parallel }: Enqueue): Promise<Omit<Row, 'round'>> {
  const each = Math.ceil(count / apis.length)
  const cpuBefore = apis.map(({ pid }) => cpuSeconds(pid))
  const before = performance.now()
  const { busy, result } = await machineBusy(() => Promise.all(apis.map((api, at) => order<LoadReport>(loads[at]!, {
    url: `${api.url}/api/v1/jobs`, headers: ADMIN, count: each, parallel: Math.ceil(parallel / apis.length), sizeBytes: 0, json
  }))))
  const seconds = (performance.now() - before) / 1000
  for (const { statuses, lastBody } of result) if (statuses['202'] !== each) throw new Error(`only ${statuses['202']} of ${each} jobs were taken: ${JSON.stringify(statuses)} ${lastBody}`)
  const cpu = apis.reduce((sum, { pid }, at) => sum + cpuSeconds(pid) - cpuBefore[at]!, 0)
  const jobs = each * apis.length
  return { 'jobs/s': jobs / seconds, 'CPU ms a job': cpu * 1000 / jobs, 'machine busy %': busy * 100 }
}

/** The rate at which `worker` sees the next `count` of those that wait to their end. */
async function run(api: Running, worker: Running, count: number): Promise<Omit<Row, 'round'>> {
  const first = (await queueOf(api)).completed
  const cpuBefore = cpuSeconds(worker.pid)
  const before = performance.now()
  const { busy, result: jobs } = await machineBusy(async () => await completedBehind(api, first + count) - first)
  const seconds = (performance.now() - before) / 1000
  return { 'jobs/s': jobs / seconds, 'CPU ms a job': (cpuSeconds(worker.pid) - cpuBefore) * 1000 / jobs, 'machine busy %': busy * 100 }
}

async function onPostgres({ rounds, parallel, store, count = 0 }: BenchOptions, stack: JobStack, loads: readonly Running[]): Promise<Row[]> {
  // brings the models in; while jobs are only taken, none runs
  await (await stack.startWorker()).stop()
  const known = await knownInput(stack.apis[0]!)
  const subjects = [
    { what: 'enqueue, known input', apis: 1, json: known },
    { what: 'enqueue, known input', apis: APIS, json: known },
    { what: 'enqueue, new input', apis: APIS, json: NO_OP_TEMPLATE }
  ]
  const rows: Row[] = []
  for (let round = 0; round <= rounds; round += 1) {
    for (const { what, apis, json } of round % 2 === 0 ? subjects : subjects.toReversed()) {
      const found = await enqueue({ loads, apis: stack.apis.slice(0, apis), json, count, parallel })
      if (round > 0) rows.push({ round, records: 'postgres', store, what, apis, ...found })
    }
  }
  const worker = await stack.startWorker()
  for (let round = 0; round <= rounds; round += 1) {
    const found = await run(stack.apis[0]!, worker, count)
    if (round > 0) rows.push({ round, records: 'postgres', store, what: 'run', apis: 0, ...found })
  }
  return rows
}

async function onSqlite({ rounds, parallel, count = 0 }: BenchOptions, stack: JobStack, loads: readonly Running[]): Promise<Row[]> {
  const rows: Row[] = []
  const known = await knownInput(stack.apis[0]!)
  for (let round = 0; round <= rounds; round += 1) {
    const before = performance.now()
    const cpuBefore = cpuSeconds(stack.apis[0]!.pid)
    const { busy } = await machineBusy(async () => {
      await enqueue({ loads, apis: stack.apis, json: known, count, parallel })
      await drained(stack.apis[0]!)
    })
    const seconds = (performance.now() - before) / 1000
    const cpu = cpuSeconds(stack.apis[0]!.pid) - cpuBefore
    if (round > 0) rows.push({ round, records: 'sqlite', store: 'fs', what: 'enqueue and run', apis: 1, 'jobs/s': count / seconds, 'CPU ms a job': cpu * 1000 / count, 'machine busy %': busy * 100 })
  }
  return rows
}

export async function benchJobRate(options: BenchOptions): Promise<Report> {
  const loads: Running[] = []
  const rows: Row[] = []
  try {
    for (let each = 0; each < APIS; each += 1) loads.push(await startProgram('load.ts'))
    for (const records of ['postgres', 'sqlite'] as const) {
      const stack = await startJobs({ records, store: options.store, apis: APIS, workers: 0 })
      try {
        rows.push(...await (records === 'postgres' ? onPostgres : onSqlite)(options, stack, loads))
      } finally {
        await stack.stop()
      }
    }
  } finally {
    for (const load of loads) await load.stop()
  }
  const of = (records: string, what: string, apis: number) => median(rows.filter(row => row.records === records && row.what === what && row.apis === apis).map(row => Number(row['jobs/s'])))
  return {
    name: 'job-rate',
    setup: { rounds: options.rounds, 'jobs a round': options.count ?? 0, parallel: options.parallel, store: options.store, ...machine() },
    rows,
    figures: [
      { name: 'enqueue, Postgres, 1 API process', value: of('postgres', 'enqueue, known input', 1), unit: 'jobs/s' },
      { name: `enqueue, Postgres, ${APIS} API processes`, value: of('postgres', 'enqueue, known input', APIS), unit: 'jobs/s' },
      { name: `enqueue, Postgres, ${APIS} API processes, each input stored first`, value: of('postgres', 'enqueue, new input', APIS), unit: 'jobs/s' },
      { name: 'no-op jobs run, Postgres, one node', value: of('postgres', 'run', 0), unit: 'jobs/s' },
      { name: 'no-op jobs enqueued and run, SQLite', value: of('sqlite', 'enqueue and run', 1), unit: 'jobs/s' }
    ]
  }
}
