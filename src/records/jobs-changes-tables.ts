/**
 * Changes of the tables of jobs: what outlasts the node that knew it. Part of the third step of the schema (migrations.ts).
 *
 *   job_webhooks    one row for each job that has something to tell to its webhook, or will have; gone when all is told
 *   job_farewells   the last event of a job that was removed, for those who had not heard of it; for a while
 *   job_counts      how many jobs ended, and how, in several rows of which each transaction adds to one
 *   job_inputs      the name of each file that came with its job
 *   nodes           processes that run jobs, each with its workers as they were a few seconds ago
 *
 * The partial index of webhooks holds those that have something to tell: a look at what is due costs the same whatever
 * waits, runs or has ended.
 */

const webhooks = (text: string) => [
  `create table job_webhooks (
    job_id ${text} not null primary key,
    seq bigint not null,
    last_seq bigint not null,
    attempts bigint not null,
    lease ${text},
    lease_until bigint not null
  )`,
  'create index job_webhooks_due on job_webhooks (lease_until, job_id) where seq < last_seq',
  // of a job that was never claimed nobody has told that it is there
  `insert into job_webhooks (job_id, seq, last_seq, attempts, lease, lease_until)
    select id, case when attempt = 0 then last_seq - 1 else last_seq end, last_seq, 0, null, 0 from jobs where webhook is not null and completed_at is null`
]

const farewells = (text: string) => [
  `create table job_farewells (
    job_id ${text} not null primary key,
    event text not null,
    job text not null,
    expires_at bigint not null
  )`,
  'create index job_farewells_oldest on job_farewells (expires_at, job_id)'
]

const counts = (text: string) => [
  `create table job_counts (
    shard bigint not null,
    status ${text} not null,
    jobs bigint not null,
    primary key (shard, status)
  )`,
  `insert into job_counts (shard, status, jobs) select 0, status, count(*) from jobs where status in ('completed', 'failed') group by status`
]

const nodes = (text: string) => [
  `create table nodes (
    id ${text} not null primary key,
    workers text not null,
    seen_at bigint not null
  )`,
  'create index nodes_seen on nodes (seen_at, id)'
]

const inputs = () => ['alter table job_inputs add column filename text']

/** @param text column type of identifiers, which are compared byte by byte */
export function jobsChanges(text: string): string[] {
  return [webhooks, farewells, counts, nodes, inputs].flatMap(make => make(text))
}
