/** The service is killed: its workers do not stay behind. */
import t from 'tap'
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { HostOrder } from '../../support/pool-host.ts'
import { eventually } from '../../support/raw-client.ts'
import { isAlive, MODEL, SCRIPTED, settings } from '../../support/scripted-pool.ts'

t.test('workers end when the process that holds the pool is killed', async t => {
  const host = fork(join(import.meta.dirname, '../../support/pool-host.ts'), { execArgv: [], serialization: 'advanced' })
  t.teardown(() => host.kill('SIGKILL'))
  const order: HostOrder = {
    options: { workers: 2, isolation: 'process', entry: SCRIPTED, settings: settings(), maxJobs: 0, maxRssBytes: 0, cancelGraceMs: 100, queueMax: 1, startTimeoutMs: 20_000 },
    request: { id: '1', task: 'tensor', model: MODEL, params: { do: [{ never: true }] }, inputs: [] }
  }
  host.send(order)
  const [pids] = await once(host, 'message') as [number[]]
  t.equal(pids.length, 2)
  t.ok(pids.every(isAlive))
  host.kill('SIGKILL')
  await eventually(() => assert.ok(!pids.some(isAlive)), 5000)
})
