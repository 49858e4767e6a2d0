/** A library's reason in words that may leave this machine: bounded, and without paths. */
import { INFERENCE_MESSAGE_MAX_CHARACTERS } from '../limits.ts'

export function plainReason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  const reason = text.replaceAll(/(^|[\s'"(=])\/[^\s'")]+/g, '$1…').replaceAll(/[\p{Cc}\s]+/gu, ' ').trim()
  return reason.length > INFERENCE_MESSAGE_MAX_CHARACTERS ? `${reason.slice(0, INFERENCE_MESSAGE_MAX_CHARACTERS)}…` : reason
}
