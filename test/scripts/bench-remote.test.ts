/** The benchmark of two machines: that it runs, with numbers too small to mean anything. */
import t from 'tap'
import { benchRemote } from '../../scripts/bench/remote.ts'
import { ffmpegOrSkip } from '../support/ffmpeg.ts'

t.setTimeout(300_000)

t.test('remote', { skip: process.platform === 'linux' ? false : 'there is no /proc' }, async t => {
  if (await ffmpegOrSkip(t) === undefined) return
  const { rows, figures } = await benchRemote({ rounds: 1, parallel: 1, sizeMib: 1, store: 'sink' })
  t.same(rows.map(({ subject }) => subject).toSorted(), ['path', 'remote'])
  for (const { name, value } of figures) t.ok(Number.isFinite(value) && value > 0, `${name}: ${value}`)
})
