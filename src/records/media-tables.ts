/** Tables of the media library, and of what callers are told. Part of the third step of the schema (migrations.ts). */

/** @param text column type of identifiers, which are compared byte by byte */
export function mediaTables(text: string): string[] {
  void text
  return []
}
