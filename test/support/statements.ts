/** What SQLite in this process is asked: for tests that two requests do the same work, where clocks would only guess. */
import { StatementSync } from 'node:sqlite'

/** The statements, in order, that ran in this process while `work` did: also those of timers, so that a comparison may have to be made again. */
export async function statementsOf<T>(work: () => Promise<T>): Promise<{ result: T, statements: string[] }> {
  const statements: string[] = []
  const { all, run } = StatementSync.prototype
  const noting = <Method extends (...values: never[]) => unknown>(method: Method): Method => function note(this: StatementSync, ...values: Parameters<Method>) {
    statements.push(this.sourceSQL)
    return method.apply(this, values)
  } as Method
  StatementSync.prototype.all = noting(all)
  StatementSync.prototype.run = noting(run)
  try {
    return { result: await work(), statements }
  } finally {
    StatementSync.prototype.all = all
    StatementSync.prototype.run = run
  }
}
