/** Signals that end a command in steps (work.ts says what each does). */
import type { Ending } from './work.ts'

/** What a shell reports of a program that this signal ended. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const

/** A third signal finds no listener, and ends the process. */
export function endOnSignals(process: NodeJS.Process): Ending & { exitCode(): number | undefined } {
  const [draining, cutOff] = [new AbortController(), new AbortController()]
  let exitCode: number | undefined
  const names = Object.keys(EXIT_CODES) as (keyof typeof EXIT_CODES)[]
  const onSignal = (name: keyof typeof EXIT_CODES): void => {
    exitCode ??= EXIT_CODES[name]
    if (!draining.signal.aborted) return draining.abort()
    cutOff.abort()
    for (const each of names) process.off(each, onSignal)
  }
  for (const name of names) process.on(name, onSignal)
  return { draining: draining.signal, cutOff: cutOff.signal, exitCode: () => exitCode }
}
