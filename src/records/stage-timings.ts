/** When each stage of an attempt began and ended, as JSON text. Times do not go back with the clock. */
import type { StageTiming } from './jobs-port.ts'
import { timingsOf } from './jobs-schema.ts'

/** The stage begins, unless it is under way; all others are over. */
export function timingsIn(text: string, stage: string, time: number): string {
  const timings = closed(timingsOf(text), time, stage)
  const known = Object.hasOwn(timings, stage) ? timings[stage] : undefined
  return JSON.stringify({ ...timings, [stage]: { startedAt: known?.startedAt ?? time, finishedAt: null } })
}

/** All stages are over. */
export function closedTimings(text: string, time: number): string {
  return JSON.stringify(closed(timingsOf(text), time))
}

function closed(timings: Record<string, StageTiming>, time: number, but?: string): Record<string, StageTiming> {
  return Object.fromEntries(Object.entries(timings).map(([stage, { startedAt, finishedAt }]) =>
    [stage, { startedAt, finishedAt: stage === but ? finishedAt : finishedAt ?? Math.max(time, startedAt) }]))
}
