/** Changes of the tables of jobs. Part of the third step of the schema (migrations.ts). */

/** @param text column type of identifiers, which are compared byte by byte */
export function jobsChanges(text: string): string[] {
  void text
  return []
}
