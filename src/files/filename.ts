/** The name that a file is kept and shown with: cleaned as everywhere (ingest/filename.ts), and no longer than a disk takes. */
import { cleanFilename } from '../ingest/filename.ts'
import { FILENAME_MAX_BYTES } from '../limits.ts'

/** What is cut is the middle: the ending says what it is. */
export function fileNameOf(name: string): string {
  const cleaned = cleanFilename(name)
  if (Buffer.byteLength(cleaned) <= FILENAME_MAX_BYTES) return cleaned
  const ending = /\.[^.]{1,16}$/u.exec(cleaned)?.[0] ?? ''
  return cut(cleaned.slice(0, cleaned.length - ending.length), FILENAME_MAX_BYTES - Buffer.byteLength(ending)) + ending
}

/** The beginning, in whole characters. */
function cut(text: string, maxBytes: number): string {
  let bytes = 0
  let end = 0
  for (const character of text) {
    bytes += Buffer.byteLength(character)
    if (bytes > maxBytes) break
    end += character.length
  }
  return text.slice(0, end)
}
