/**
 * Tables of shared files: who else may read one, and settings that all nodes share. Part of the third step of the schema
 * (migrations.ts).
 *
 * Files are listed by whom they belong to, (account, subject), newest first. Both may be null: the index holds them as they
 * are, and a query says `is null` where that is meant.
 */

/** @param text column type of identifiers, which are compared byte by byte */
export function sharingTables(text: string): string[] {
  return [
    'create index files_held on files (account, subject, created_at, id)',
    `create table file_grants (
      file_id ${text} not null references files (id) on delete cascade,
      holder ${text} not null,
      created_at bigint not null,
      primary key (file_id, holder)
    )`,
    `create table settings (
      name ${text} not null primary key,
      value text not null,
      created_at bigint not null
    )`
  ]
}
