import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { sharedCheck } from '../../src/http/shared-check.ts'
import { CHECK_TIMEOUT_MS } from '../../src/limits.ts'

t.test('whoever asks while a check is under way shares it, and a good answer is believed', async t => {
  let asked = 0
  const check = sharedCheck(async () => {
    asked++
    await delay(20)
  })
  await Promise.all(Array.from({ length: 100 }, check))
  await check()
  t.equal(asked, 1)
})

t.test('a bad answer is for those who asked, and is not kept', async t => {
  const answers = [new Error('gone'), undefined]
  let asked = 0
  const check = sharedCheck(async () => {
    asked++
    const error = answers.shift()
    await delay(5)
    if (error !== undefined) throw error
  })
  const outcomes = await Promise.allSettled([check(), check()])
  t.same(outcomes.map(({ status }) => status), ['rejected', 'rejected'])
  await check()
  t.equal(asked, 2)
})

t.test('a check that does not end is an error in time, and no second one begins beside it', async t => {
  let asked = 0
  const { promise, resolve } = Promise.withResolvers<void>()
  const check = sharedCheck(async () => {
    asked++
    await promise
  })
  const began = performance.now()
  await t.rejects(check(), /no answer within/)
  t.ok(performance.now() - began < CHECK_TIMEOUT_MS + 2000)
  const again = performance.now()
  await t.rejects(check(), /no answer within/)
  t.ok(performance.now() - again < 1000, 'those who come later know at once')
  t.equal(asked, 1)
  resolve()
  await delay(5)
  await check()
  t.equal(asked, 1, 'it has become good, if late')
})
