/**
 * The tables of jobs, files and models, and why each index is there. Second step of the schema (migrations.ts): released,
 * it is not edited.
 *
 * A claim, a reap, a place among active jobs and the queue's figures read partial indexes that hold unfinished jobs only,
 * so that what is finished costs them nothing. Their conditions are on columns that only such jobs have (the checks hold
 * them together): for a condition on the status SQLite would rather take an index of lists.
 *
 * Lists (jobs-list.ts) have indexes of what is unfinished, which are small, and of what is finished, which a job enters
 * once: a claim, which makes a new row version in Postgres, has few of them to write.
 */

const jobs = (text: string) => [
  `create table jobs (
    id ${text} not null primary key,
    run bigint not null,
    subject ${text},
    account ${text},
    client_id ${text},
    owner ${text} not null,
    user_id ${text},
    holder ${text} not null,
    model_name ${text} not null,
    model_version ${text} not null,
    model_sha256 ${text} not null,
    task text not null,
    params text not null,
    status ${text} not null,
    stage text,
    progress double precision,
    priority bigint not null,
    attempt bigint not null,
    attempt_token ${text},
    worker text,
    cancel_requested bigint not null,
    failure text,
    first_timings text not null,
    stage_timings text not null,
    execution text,
    cache bigint not null,
    memo_key ${text} not null,
    webhook text,
    idempotency_key ${text},
    idempotency_hash ${text},
    last_seq bigint not null,
    available_at bigint,
    lease_until bigint,
    created_at bigint not null,
    updated_at bigint not null,
    started_at bigint,
    completed_at bigint,
    check ((available_at is not null) = (status = 'queued')),
    check ((lease_until is not null) = (status = 'processing') and (attempt_token is not null) = (status = 'processing')),
    check ((completed_at is not null) = (status in ('completed', 'failed', 'cancelled')))
  )`,
  'create index jobs_ready on jobs (priority desc, created_at, id) where available_at = 0',
  'create index jobs_delayed on jobs (available_at, id) where available_at > 0',
  'create index jobs_leases on jobs (lease_until, id) where lease_until is not null',
  'create index jobs_active_holder on jobs (holder, created_at, id) where completed_at is null',
  'create index jobs_active_all on jobs (status, created_at, id) where completed_at is null',
  'create index jobs_active_model on jobs (model_name, status, created_at, id) where completed_at is null',
  'create index jobs_active_owner on jobs (owner, status, created_at, id) where completed_at is null',
  'create index jobs_finished on jobs (completed_at, id) where completed_at is not null',
  'create index jobs_finished_all on jobs (status, created_at, id) where completed_at is not null',
  'create index jobs_finished_model on jobs (model_name, status, created_at, id) where completed_at is not null',
  'create index jobs_finished_owner on jobs (owner, status, created_at, id) where completed_at is not null',
  'create index jobs_finished_owner_model on jobs (owner, model_name, status, created_at, id) where completed_at is not null',
  'create index jobs_finished_owner_user on jobs (owner, user_id, status, created_at, id) where completed_at is not null',
  'create index jobs_finished_user on jobs (user_id, status, created_at, id) where completed_at is not null',
  `create index jobs_memo on jobs (memo_key, owner, completed_at, id) where status = 'completed'`,
  'create unique index jobs_idempotent on jobs (owner, idempotency_key) where idempotency_key is not null'
]

const parts = (text: string) => [
  `create table job_inputs (
    job_id ${text} not null,
    name ${text} not null,
    position bigint not null,
    file_id ${text},
    sha256 ${text} not null,
    key ${text} not null,
    size bigint not null,
    content_type text not null,
    primary key (job_id, name, position)
  )`,
  'create index job_inputs_sha256 on job_inputs (sha256)',
  'create index job_inputs_key on job_inputs (key)',
  `create table job_results (
    job_id ${text} not null,
    position bigint not null,
    name text not null,
    file_id ${text} not null,
    primary key (job_id, position)
  )`,
  `create table job_events (
    job_id ${text} not null,
    seq bigint not null,
    event ${text} not null,
    stage text,
    data text not null,
    created_at bigint not null,
    primary key (job_id, seq)
  )`,
  // one row for each stage of a job
  `create index job_events_progress on job_events (job_id, stage) where event = 'generation_progress'`,
  `create table job_reservations (
    id ${text} not null primary key,
    holder ${text} not null,
    expires_at bigint not null
  )`,
  'create index job_reservations_holder on job_reservations (holder, expires_at)',
  'create index job_reservations_oldest on job_reservations (expires_at, id)',
  `create table downloads (
    token_hash ${text} not null primary key,
    file_id ${text} not null,
    expires_at bigint not null
  )`,
  'create index downloads_oldest on downloads (expires_at, token_hash)'
]

const files = (text: string) => [
  `create table files (
    id ${text} not null primary key,
    filename text not null,
    content_type text not null,
    size bigint not null,
    sha256 ${text} not null,
    key ${text} not null,
    access ${text} not null,
    subject ${text},
    account ${text},
    client_id ${text},
    owner ${text} not null,
    created_at bigint not null
  )`,
  'create index files_sha256 on files (sha256, owner)',
  'create index files_key on files (key, owner)',
  // as uploads_owned, for those who know the hash
  `create index uploads_owned_sha256 on uploads (sha256, owner) where status = 'finalized'`
]

const models = (text: string) => [
  `create table models (
    id ${text} not null primary key,
    name ${text} not null,
    version ${text} not null,
    task text not null,
    sha256 ${text} not null,
    key ${text} not null,
    size bigint not null,
    manifest text not null,
    signature text not null,
    loaded bigint not null,
    created_at bigint not null,
    unique (name, version)
  )`,
  'create index models_sha256 on models (sha256)'
]

/** @param text column type of identifiers, which are compared byte by byte */
export function jobsTables(text: string): string[] {
  return [jobs, parts, files, models].flatMap(make => make(text))
}
