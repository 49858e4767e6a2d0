/**
 * `Content-Disposition` (RFC 6266): the name in ASCII for old readers, and in full as `filename*` (RFC 8187).
 * Whatever the name holds, it stays inside its quotes and is never a path.
 */
const PATH_AND_CONTROL = /[/\\\p{Cc}\u2028-\u202e\u2066-\u2069]/gu

/** What a browser shows without running any of it. SVG holds scripts. */
const SHOWN = /^(?:(?:image|video|audio)\/(?!svg)[\w!#$&^.+-]+|application\/pdf)(?: *;|$)/i

/** May a browser show it in place? */
export function isShown({ contentType }: { contentType: string }): boolean {
  return SHOWN.test(contentType)
}

/** @param inline shown in place, where the type is one that may be */
export function dispositionOf(file: { filename: string, contentType: string }, inline: boolean): string {
  return disposition(inline && isShown(file) ? 'inline' : 'attachment', file.filename)
}

export function attachment(filename: string): string {
  return disposition('attachment', filename)
}

function disposition(kind: 'attachment' | 'inline', filename: string): string {
  const name = filename.toWellFormed().replaceAll(PATH_AND_CONTROL, '_') || 'file'
  // a percent sign is taken for an encoded byte by some
  const ascii = name.replaceAll(/[^\x20-\x7e]|["%]/gu, '_')
  return `${kind}; filename="${ascii}"; filename*=UTF-8''${encodeExtended(name)}`
}

/** encodeURIComponent leaves some characters as they are that are no attr-char. */
function encodeExtended(name: string): string {
  return encodeURIComponent(name).replaceAll(/['()*]/g, character => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}
