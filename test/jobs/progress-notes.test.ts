import t from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { progressNotes } from '../../src/jobs/progress-notes.ts'

const at = (stage: string, progress: number) => ({ stage, progress, message: null })

t.test('the first goes at once, then the newest of each stage, in the order of the stages', async t => {
  const written: string[] = []
  const notes = progressNotes(async ({ stage, progress }) => void written.push(`${stage} ${progress}`), 20)
  for (let progress = 1; progress <= 5; progress++) notes.note(at('a', progress))
  t.same(written, ['a 1'])
  notes.note(at('b', 1))
  notes.note(at('b', 2))
  await delay(100)
  t.same(written, ['a 1', 'a 5', 'b 2'])
  notes.note(at('b', 3))
  t.equal(written.at(-1), 'b 3', 'at once again')
  await notes.end()
})

t.test('the end waits for what is being written, drops what waits, and takes nothing more', async t => {
  const written: number[] = []
  const gate = Promise.withResolvers<void>()
  const notes = progressNotes(async ({ progress }) => {
    await gate.promise
    written.push(progress!)
  }, 1)
  for (const progress of [1, 2]) notes.note(at('a', progress))
  const ending = notes.end()
  notes.note(at('a', 3))
  gate.resolve()
  await ending
  await notes.end()
  await delay(20)
  t.same(written, [1])
})

t.test('a worker with ever new stages does not fill the memory', async t => {
  const written: string[] = []
  const notes = progressNotes(async ({ stage }) => void written.push(stage), 1)
  for (let stage = 0; stage < 1000; stage++) notes.note(at(`s${stage}`, 1))
  await delay(200)
  t.ok(written.length <= 17, `${written.length}`)
  t.equal(written.at(-1), 's999')
  await notes.end()
})
