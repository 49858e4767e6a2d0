/** Upload slots: bodies that may arrive at once. They protect sockets and the store; the bytes are streamed. */
import { PenstockError } from '../errors.ts'

export interface Slots {
  /** Takes a slot; the returned function gives it back, once however often it is called. @throws SERVICE_BUSY when all are taken */
  take(): () => void
  readonly inUse: number
}

export function createSlots(max: number, retryAfterSeconds: number): Slots {
  let inUse = 0
  return {
    get inUse() { return inUse },
    take() {
      if (inUse >= max) throw new PenstockError('SERVICE_BUSY', { why: 'service_busy', retryAfterSeconds })
      inUse += 1
      let given = false
      return () => {
        if (given) return
        given = true
        inUse -= 1
      }
    }
  }
}
