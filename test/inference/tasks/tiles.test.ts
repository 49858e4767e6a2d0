import t from 'tap'
import { evenWindow, planTiles, spans } from '../../../src/inference/tasks/tiles.ts'

t.test('spans cover a length without gap or overlap, each core at least the overlap away from its window\'s inner borders', async t => {
  for (const length of [1, 2, 63, 64, 65, 100, 128, 129, 1000, 1279, 4097]) {
    for (const window of [64, 65, 200]) {
      for (const overlap of [0, 1, 16, 31]) {
        const found = spans(length, window, overlap)
        const problems = found.filter(({ start, size, from, to }, index) =>
          from !== (index === 0 ? 0 : found[index - 1]!.to) || to <= from || start < 0 || start + size > length || size !== Math.min(window, length)
          || (start > 0 && from < start + overlap) || (start + size < length && to > start + size - overlap))
        t.same([problems, found.at(-1)!.to], [[], length], `${length} pixels, windows of ${window}, overlap ${overlap}`)
      }
    }
  }
})

const seen = (length: number, window: number): number => spans(length, window, 32).reduce((sum, { size }) => sum + size, 0)

t.test('an even window needs no more steps than the largest, and sees less twice', async t => {
  for (const length of [1, 1024, 1280, 1281, 1300, 2000, 4096, 10_000, 65_535]) {
    const window = evenWindow(length, 1280, 32, 32)
    t.ok(window <= 1280)
    t.ok(length <= 1280 ? window === length : window % 32 === 0, `${length}: ${window}`)
    t.ok(spans(length, window, 32).length <= spans(length, 1280, 32).length, String(length))
  }
  t.ok(seen(1400, evenWindow(1400, 1280, 32, 32)) < 1.1 * 1400)
})

t.test('tiles come row by row', async t => {
  t.same(planTiles({ width: 100, height: 70 }, { width: 64, height: 64 }, 4).map(({ core }) => [core.left, core.top, core.width, core.height]), [[0, 0, 60, 60], [60, 0, 40, 60], [0, 60, 60, 10], [60, 60, 40, 10]])
})
