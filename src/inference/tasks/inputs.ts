/** The inputs of a run, for tasks that take one. */
import { InferenceFailed, type RunInput } from '../port.ts'
import type { TaskContext } from '../task.ts'

/** @throws InferenceFailed invalid_input */
export function theInput({ inputs }: TaskContext, what: string): RunInput {
  const [input, ...more] = inputs
  if (input === undefined) throw new InferenceFailed('invalid_input', `there is no input: this task takes ${what}`)
  if (more.length > 0) throw new InferenceFailed('invalid_input', `there are ${inputs.length} inputs: this task takes ${what}`)
  if (input.size === 0) throw new InferenceFailed('invalid_input', `the input is empty: this task takes ${what}`)
  return input
}

/** The value of a param that was checked against the task's schema. */
export function param<T>({ params }: TaskContext, name: string, fallback: T): T {
  return (params[name] as T | undefined) ?? fallback
}

/** JSON, with a line end for people who look at it in a terminal. */
export function jsonBytes(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`)
}
