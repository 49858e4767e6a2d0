import t from 'tap'
import { jobRetryDelayMs, webhookRetryDelayMs } from '../../src/jobs/backoff.ts'
import { canonicalJson, isDeeperThan, memoKeyOf } from '../../src/jobs/canonical-json.ts'

t.test('equal values have one text', async t => {
  t.equal(canonicalJson({ b: 1, a: [{ d: null, c: 'x' }], u: undefined }), '{"a":[{"c":"x","d":null}],"b":1}')
  t.equal(canonicalJson({ 10: 1, 9: 2, a: {} }), canonicalJson({ a: {}, 9: 2, 10: 1 }))
  t.not(canonicalJson({ a: [1, 2] }), canonicalJson({ a: [2, 1] }))
  t.equal(canonicalJson(JSON.parse('{"__proto__":{"b":1,"a":2}}')), '{"__proto__":{"a":2,"b":1}}')
})

const nested = (levels: number): unknown => JSON.parse('['.repeat(levels) + ']'.repeat(levels))

t.test('depth is looked at without going there', async t => {
  t.equal(isDeeperThan(1, 0), false)
  t.equal(isDeeperThan([], 0), true)
  t.equal(isDeeperThan(nested(32), 32), false)
  t.equal(isDeeperThan(nested(33), 32), true)
  t.equal(isDeeperThan({ a: 1, b: { c: [null] } }, 3), false)
  t.equal(isDeeperThan({ a: 1, b: { c: [null] } }, 2), true)
  t.equal(isDeeperThan(nested(5000), 32), true)
})

t.test('the key of a computation depends on all that its results depend on, and on nothing else', async t => {
  const base = {
    model: { name: 'm', version: '1', sha256: 'a' }, task: 'exec', params: { x: 1, y: 2 },
    inputs: [{ name: 'input', position: 0, sha256: 'b' }, { name: 'ref_images', position: 0, sha256: 'c' }]
  }
  const key = memoKeyOf(base)
  t.match(key, /^[0-9a-f]{64}$/)
  const same = base.inputs.map(input => ({ ...input, size: 5, claim: 'x' }))
  t.equal(memoKeyOf({ ...base, params: { y: 2, x: 1 }, inputs: same }), key)
  for (const other of [
    { ...base, model: { ...base.model, version: '2' } }, { ...base, model: { ...base.model, sha256: 'd' } }, { ...base, task: 'tensor' },
    { ...base, params: { x: 1 } }, { ...base, inputs: base.inputs.toReversed() }, { ...base, inputs: [base.inputs[0]!] }
  ]) t.not(memoKeyOf(other), key)
})

t.test('pauses grow, are bounded, and differ by a quarter at most', async t => {
  t.same([1, 2, 3].map(attempt => jobRetryDelayMs(attempt, () => 0.5)), [1000, 4000, 16_000])
  t.same([jobRetryDelayMs(1, () => 0), jobRetryDelayMs(1, () => 1)], [750, 1250])
  t.ok(jobRetryDelayMs(100) <= 375_000)
  t.same([1, 2, 3].map(attempt => webhookRetryDelayMs(attempt, () => 0.5)), [1000, 2000, 4000])
})
