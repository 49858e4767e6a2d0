import type { Test } from 'tap'

/**
 * For a file that goes on preparing behind a test that was skipped: the root would take that for its last one, and end. Call what
 * this returns when the tests are about to be named.
 */
export function preparing(t: Test): () => void {
  const done = Promise.withResolvers<void>()
  void t.test('what the tests need is made', async t => {
    await done.promise
    t.pass()
  })
  return done.resolve
}
