/** What waits for a worker, first come, first served. Bounded in number and, each, in time. */
import { InferenceFailed, type RunHooks } from '../port.ts'

export interface Line<Worker> {
  /**
   * Calls `begin` with a free worker, at once when one is served. @throws InferenceFailed busy (too many wait already, or
   * `timeoutMs` is over), cancelled, and what `clear` was given
   */
  wait<Result>(hooks: Pick<RunHooks, 'signal' | 'timeoutMs'>, begin: (worker: Worker) => Promise<Result>): Promise<Result>
  /** Gives a worker to the first in line. False: nobody waits. */
  serve(worker: Worker): boolean
  clear(why: InferenceFailed): void
}

interface Place<Worker> { begin(worker: Worker): void, leave(why: InferenceFailed): void }

export function waitingLine<Worker>(max: number): Line<Worker> {
  const places = new Set<Place<Worker>>()

  return {
    wait<Result>({ signal, timeoutMs }: Pick<RunHooks, 'signal' | 'timeoutMs'>, begin: (worker: Worker) => Promise<Result>): Promise<Result> {
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
    serve(worker) {
      const [first] = places
      first?.begin(worker)
      return first !== undefined
    },
    clear(why) {
      for (const place of places) place.leave(why)
    }
  }
}
