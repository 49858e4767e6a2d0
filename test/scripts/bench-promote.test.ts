/** The benchmark of promoting: that its instruments do what they say, and that it runs, with numbers too small to mean anything. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { startProgram } from '../../scripts/bench/processes.ts'
import { benchPromote } from '../../scripts/bench/promote.ts'
import { minioOrSkip } from '../support/minio.ts'

t.setTimeout(300_000)

t.test('its gateway takes what comes whole, and gives tokens', async t => {
  const gateway = await startProgram('gateway.ts')
  t.teardown(() => gateway.stop())
  t.equal((await fetch(`${gateway.url}/files/a`, { method: 'PUT', body: new Uint8Array(randomBytes(300_000)) })).status, 201)
  t.match(await (await fetch(`${gateway.url}/token`, { method: 'POST' })).json(), { access_token: String, token_type: 'Bearer' })
})

t.test('promote', { skip: process.platform === 'linux' ? false : 'there is no /proc' }, async t => {
  if (!await minioOrSkip(t)) return
  const { rows, figures } = await benchPromote({ rounds: 2, parallel: 2, sizeMib: 3, store: 'minio' })
  t.same(rows.map(({ subject }) => subject).toSorted(), ['baseline', 'baseline', 'penstock', 'penstock'])
  for (const { name, value } of figures) t.ok(name === 'penstock / baseline' || Number.isFinite(value), `${name}: ${value}`)
})
