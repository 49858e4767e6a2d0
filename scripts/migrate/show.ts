/** Names, sizes and times on lines for people. */
import { SHOWN_MAX_CHARACTERS } from './limits.ts'

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

export function bytesText(bytes: number): string {
  const power = Math.min(UNITS.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10))
  const value = bytes / 1024 ** power
  return `${power === 0 ? value : value.toFixed(1)} ${UNITS[power]}`
}

/** A name comes from anywhere: what would steer a terminal, or turn the line around, is written out. */
export function plain(text: string): string {
  const safe = text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, character => `\\u{${character.codePointAt(0)!.toString(16)}}`)
  return safe.length <= SHOWN_MAX_CHARACTERS ? safe : `${safe.slice(0, SHOWN_MAX_CHARACTERS)}…`
}

export function secondsText(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–'
  const [minutes, rest] = [Math.floor(seconds / 60), Math.floor(seconds % 60)]
  return minutes < 60 ? `${minutes}:${String(rest).padStart(2, '0')}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')} h`
}
