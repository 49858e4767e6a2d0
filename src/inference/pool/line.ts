/**
 * What waits for a worker, first come, first served. Bounded in number and, each, in time. What is brief (somebody waits for
 * the answer) may be served past jobs, by a worker that is there for that alone.
 */
import { InferenceFailed, type RunHooks } from '../port.ts'

export interface Line<Worker> {
  /**
   * Calls `begin` with a free worker, at once when one is served. @throws InferenceFailed busy (too many wait already, or
   * `timeoutMs` is over), cancelled, and what `clear` was given
   */
  wait<Result>(hooks: Pick<RunHooks, 'signal' | 'timeoutMs'>, brief: boolean, begin: (worker: Worker) => Promise<Result>): Promise<Result>
  /** Gives a worker to the first in line, or to the first that is brief. False: nobody of that kind waits. */
  serve(worker: Worker, options?: { briefOnly: boolean }): boolean
  /** Does anything brief wait? */
  readonly hasBrief: boolean
  clear(why: InferenceFailed): void
}

interface Place<Worker> { readonly brief: boolean, begin(worker: Worker): void, leave(why: InferenceFailed): void }

export function waitingLine<Worker>(max: number): Line<Worker> {
  const places = new Set<Place<Worker>>()
  const first = (briefOnly: boolean): Place<Worker> | undefined => places.values().find(({ brief }) => brief || !briefOnly)

  return {
    get hasBrief() { return first(true) !== undefined },
    wait<Result>({ signal, timeoutMs }: Pick<RunHooks, 'signal' | 'timeoutMs'>, brief: boolean, begin: (worker: Worker) => Promise<Result>): Promise<Result> {
      if (places.size >= max) return Promise.reject(new InferenceFailed('busy', 'every worker is busy and too many wait for one'))
      const { promise, resolve, reject } = Promise.withResolvers<Result>()
      const timer = setTimeout(() => place.leave(new InferenceFailed('busy', `no worker was free within ${timeoutMs} ms`)), timeoutMs)
      const onAbort = (): void => place.leave(new InferenceFailed('cancelled', 'it was cancelled before it began'))
      const quit = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        places.delete(place)
      }
      const place: Place<Worker> = {
        brief,
        begin(worker) {
          quit()
          resolve(begin(worker))
        },
        leave(why) {
          quit()
          reject(why)
        }
      }
      signal?.addEventListener('abort', onAbort)
      places.add(place)
      return promise
    },
    serve(worker, { briefOnly } = { briefOnly: false }) {
      const next = first(briefOnly)
      next?.begin(worker)
      return next !== undefined
    },
    clear(why) {
      for (const place of places) place.leave(why)
    }
  }
}
