/** A transaction that may undo itself, counts the jobs that it ends, and tells of what it did once that is there. */
import { jobCounting } from './job-counts.ts'
import type { JobCounting } from './job-counts.ts'
import type { JobHint } from './jobs-port.ts'
import type { Records, RecordsTransaction } from './schema.ts'

/** Thrown within: undoes the transaction, and is its outcome. */
export class Undo<T> extends Error {
  readonly outcome: T
  constructor(outcome: T) {
    super('undone')
    this.outcome = outcome
  }
}

export interface Work {
  readonly trx: RecordsTransaction
  /** Goes out with the commit. */
  tell(hint: JobHint): void
  /** A job goes from one state to another: what has ended is counted. */
  readonly moved: JobCounting['moved']
}

export async function transact<T>({ db, hints }: Records, work: (work: Work) => Promise<T>): Promise<T> {
  /** by what they say: once is enough */
  const hinted = new Map<string, JobHint>()
  try {
    const outcome = await db.transaction().execute(async trx => {
      const { moved, write } = jobCounting()
      const result = await work({ trx, tell: hint => { hinted.set(JSON.stringify(hint), hint) }, moved })
      await write(trx)
      await hints.send(trx, [...hinted.values()])
      return result
    })
    hints.deliver([...hinted.values()])
    return outcome
  } catch (error) {
    if (error instanceof Undo) return error.outcome as T
    throw error
  }
}
