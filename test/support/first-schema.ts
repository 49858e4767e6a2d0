/**
 * A database as the first step of the schema left it, with rows: what an upgrade has to take over. Written down here once,
 * so that an edit of that step does not go unseen.
 */
const HASH = 'a'.repeat(64)

/** What firstSchema() put in. */
export const OLD = { upload: 'old-upload', running: 'old-running', extension: 'old-extension', sha256: HASH, key: `sha256/${HASH}/object`, size: 7, owner: { subject: 'ada', account: null, clientId: null } }

/** @param text column type of identifiers: `text`, and in Postgres `text collate "C"` */
export function firstSchema(text: string): string {
  return `
  create table uploads (
    id ${text} not null primary key,
    kind text not null,
    staging_key ${text} not null,
    filename text not null,
    size bigint not null,
    received bigint not null,
    declared_sha256 ${text},
    sha256 ${text},
    etag text,
    status ${text} not null,
    failure text,
    canonical_key ${text},
    result text,
    subject ${text},
    account ${text},
    client_id ${text},
    owner ${text} not null,
    created_at bigint not null,
    updated_at bigint not null
  );
  create index uploads_open on uploads (updated_at, id) where status in ('receiving', 'staged');
  create index uploads_ended on uploads (updated_at, id) where status in ('failed', 'aborted', 'expired');
  create index uploads_canonical on uploads (canonical_key, created_at, id) where status = 'finalized';
  create index uploads_owned on uploads (canonical_key, owner, created_at, id) where status = 'finalized';
  create index uploads_sha256 on uploads (sha256) where status = 'finalized';
  create table objects (
    key ${text} not null primary key,
    sha256 ${text} not null,
    size bigint not null,
    content_type text not null,
    state ${text} not null,
    claim ${text} not null,
    claimed_at bigint not null,
    created_at bigint not null
  );
  create index objects_sha256 on objects (sha256, claimed_at);
  create index objects_pending on objects (claimed_at, key) where state = 'pending';
  create table collections (
    sha256 ${text} not null primary key,
    lease ${text} not null,
    begun_at bigint not null
  );
  create index collections_begun on collections (begun_at, sha256);
  create table extensions (
    id ${text} not null primary key,
    publisher ${text} not null,
    name ${text} not null,
    latest_version ${text} not null,
    created_at bigint not null,
    unique (publisher, name)
  );
  create index extensions_newest on extensions (created_at, id);
  create table extension_versions (
    id ${text} not null primary key,
    extension_id ${text} not null references extensions (id),
    version ${text} not null,
    content_hash ${text} not null,
    canonical_key ${text} not null,
    manifest text not null,
    signature text not null,
    created_at bigint not null,
    unique (extension_id, version)
  );
  create index extension_versions_newest on extension_versions (extension_id, created_at, id);
  create index extension_versions_content on extension_versions (content_hash, created_at, id);
  create table multipart_intents (
    id ${text} not null primary key,
    key ${text} not null,
    upload_id text,
    touched_at bigint not null
  );
  create index multipart_intents_oldest on multipart_intents (touched_at, id);
  create table schema_migrations (version bigint not null primary key, name text not null, applied_at bigint not null);
  insert into schema_migrations values (1, 'uploads, objects, extensions, multipart intents', 1000);
  insert into uploads (id, kind, staging_key, filename, size, received, sha256, etag, status, canonical_key, result, subject, owner, created_at, updated_at) values
    ('${OLD.upload}', 'object', 's1', 'a.bin', ${OLD.size}, ${OLD.size}, '${OLD.sha256}', 'e', 'finalized', '${OLD.key}', '{"ok":true}', 'ada', '["ada",null,null]', 1000, 1000),
    ('${OLD.running}', 'bundle', 's2', 'b.bin', 9, 2, null, null, 'receiving', null, null, null, '[null,null,null]', 1000, 1000);
  insert into objects values ('${OLD.key}', '${OLD.sha256}', ${OLD.size}, 'text/plain', 'stored', 'c1', 1000, 1000);
  insert into extensions values ('${OLD.extension}', '', 'tool', '1.0.0', 1000);
  insert into extension_versions values ('v1', '${OLD.extension}', '1.0.0', 'b2', 'k', '{}', 'null', 1000);
  insert into multipart_intents values ('i1', 'k', null, 1000);
  `
}
