import t from 'tap'
import { storeReadiness } from '../../src/objects/readiness.ts'
import { openStub } from '../support/object-stores.ts'

t.test('a store that hangs where its bucket is to be made is given up in the time of a check, for all who ask at once', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({}, { kind: 'stall-answer' })
  const readiness = storeReadiness({ store, createBucket: true, probe: () => { throw new Error('there is nothing to probe') }, onProbed() {} })
  await Promise.all([1, 2].map(() => t.rejects(readiness.ensure(), { message: 'no answer in the time that it was given', cause: { name: 'TimeoutError' } })))
  t.equal(stub.requests.length, 1)
})
