/**
 * The table of promotions. Part of the third step of the schema (migrations.ts).
 *
 * A row is there from when somebody began to send, so that nobody else sends the same; without `promoted_at` it is no promotion
 * yet. The index has what a job is shown with, newest first.
 */

/** @param text column type of identifiers, which are compared byte by byte */
export function promotionsTables(text: string): string[] {
  return [
    `create table promotions (
      job_id ${text} not null,
      source ${text} not null,
      target_object_key ${text} not null,
      size bigint not null,
      sha256 ${text} not null,
      promoted_at bigint,
      lease ${text},
      lease_until bigint not null,
      primary key (job_id, source, target_object_key)
    )`,
    'create index promotions_newest on promotions (job_id, promoted_at, source, target_object_key) where promoted_at is not null'
  ]
}
