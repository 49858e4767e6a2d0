/** What jobs of each task take as `params`, for the documentation: from the schemas that they are held against. */
import type { TSchema } from 'typebox'
import { taskNamed, taskNames } from '../../inference/tasks/index.ts'

interface Param { type?: string, enum?: readonly unknown[], minimum?: number, maximum?: number, default?: unknown, description?: string }

export function paramsOf(task: string): TSchema {
  return taskNamed(task)?.params ?? {}
}

/** A line for each task, in Markdown. */
export function describeParams(): string {
  return taskNames().map(name => {
    const params = Object.entries((paramsOf(name) as { properties?: Record<string, Param> }).properties ?? {})
    return `- \`${name}\`: ${params.length === 0 ? 'none' : params.map(([param, schema]) => `\`${param}\` (${describe(schema)})`).join(', ')}`
  }).join('\n')
}

function describe({ type, enum: values, minimum, maximum, default: fallback, description }: Param): string {
  const kind = values === undefined ? type : values.map(value => `\`${String(value)}\``).join(' or ')
  const range = minimum === undefined || maximum === undefined ? undefined : `${minimum} to ${maximum}`
  const without = fallback === undefined ? undefined : `\`${String(fallback)}\` without it`
  return [[kind, range].filter(Boolean).join(' '), without, description].filter(Boolean).join('; ')
}
