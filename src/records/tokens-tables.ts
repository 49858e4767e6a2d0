/**
 * The table of minted tokens. Part of the third step of the schema (migrations.ts).
 *
 * A row is found by the hash of the value (its unique index), listed newest first, and pruned by when it was over: those
 * that are good until they are removed are not in that index.
 */

/** @param text column type of identifiers, which are compared byte by byte */
export function tokensTables(text: string): string[] {
  return [
    `create table tokens (
      id ${text} not null primary key,
      token_hash ${text} not null unique,
      kind ${text} not null,
      account ${text} not null,
      subject ${text},
      scopes text not null,
      created_at bigint not null,
      expires_at bigint,
      check ((subject is null) = (kind = 'public'))
    )`,
    'create index tokens_newest on tokens (created_at, id)',
    'create index tokens_oldest on tokens (expires_at, id) where expires_at is not null'
  ]
}
