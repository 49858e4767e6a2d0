/** The border of the adapters: whatever the driver or Kysely throws leaves as RecordStoreFailed. */
import { RecordStoreFailed } from './port.ts'

/** Carries an error of the caller's own callback through the transaction; it leaves as it was thrown. */
export class CallerFault extends Error {
  constructor(cause: unknown) {
    super('the caller of the record store threw', { cause })
  }
}

type Method = (...args: unknown[]) => Promise<unknown>

/** The same methods, rejecting with RecordStoreFailed only. They must not use `this`. */
export function translateErrors<T extends object>(name: string, methods: T): T {
  const translated = Object.entries(methods as Record<string, Method>).map(([key, method]) => [key, async (...args: unknown[]) => {
    try {
      return await method(...args)
    } catch (error) {
      throw error instanceof CallerFault ? error.cause : failureOf(name, error)
    }
  }])
  return Object.fromEntries(translated) as T
}

/** The driver's text stays in `cause`, for the log: it may name hosts and users. */
function failureOf(name: string, error: unknown): RecordStoreFailed {
  if (error instanceof RecordStoreFailed) return error
  const { code, errstr } = error as { code?: unknown, errstr?: unknown }
  const reason = [code, errstr].filter(each => typeof each === 'string').join(', ')
  return new RecordStoreFailed(`the ${name} record store failed${reason === '' ? '' : ` (${reason})`}`, { cause: error })
}
