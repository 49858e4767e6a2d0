/**
 * Cleans a caller's filename for people to read; it never becomes part of a key. Unicode letters (with their marks),
 * digits, dot, dash, space and underscore stay, all else becomes `_`; runs of white space and `_` become one `_`;
 * leading dots and trailing dots and spaces go. Nothing left: `unnamed_file`.
 */
export function cleanFilename(name: string): string {
  const cleaned = name.trim().toWellFormed().normalize('NFC')
    .replaceAll(/[^\p{L}\p{M}\p{N}. _\-\s]/gu, '_')
    .replaceAll(/[\s_]{2,}|[^\S ]/gu, '_')
    .replace(/^\.+/, '')
    .replace(/[. ]+$/, '')
  return cleaned === '' ? 'unnamed_file' : cleaned
}
