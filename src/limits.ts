/** Every bound that is not configuration. Unit last in the name; each says what it protects. */

/** Query `filename`, in bytes of UTF-8: the limit of common file systems. */
export const FILENAME_MAX_BYTES = 255
/** Body of a JSON request (finalize carries a manifest of at most 1 MiB as an escaped string). */
export const JSON_BODY_MAX_BYTES = 4 * 1024 * 1024
/** `reason` of an abort, in characters. */
export const ABORT_REASON_MAX_CHARACTERS = 500
/** Water marks of the stream between a request and the store. Two of them is all an upload holds in memory. */
export const STREAM_HIGH_WATER_MARK_BYTES = 256 * 1024
/** Bytes of one upload that are hashed and passed on before the event loop turns to others. */
export const STREAM_TURN_BYTES = 128 * 1024

/** `manifest.json`, in the bundle or in the request. */
export const MANIFEST_MAX_BYTES = 1024 * 1024
/** Of a bundle, decompressed, while looking for its manifest: ends compression bombs. */
export const BUNDLE_DECOMPRESSED_MAX_BYTES = 1024 * 1024 * 1024
/** Entries of a bundle looked at for its manifest. */
export const BUNDLE_ENTRIES_MAX = 100_000
/** Of one extended (pax or GNU) header of a bundle's archive: these are the only headers that are held whole. */
export const TAR_EXTENDED_HEADER_MAX_BYTES = 1024 * 1024
/** zstd: log2 of the window a frame may ask memory for: 128 MiB, what the zstd program takes without being told. */
export const ZSTD_WINDOW_LOG_MAX = 27
/** zstd: decoders opened for one bundle, which is once for each frame that ends within a chunk. */
export const ZSTD_DECODERS_MAX = 20_000
/** Nesting of objects and arrays in a manifest: walking it and writing it out again recurse. */
export const MANIFEST_DEPTH_MAX = 32
/** `name`, `publisher` and `version` of a manifest, each, in bytes of UTF-8: the records index them together. */
export const MANIFEST_IDENTITY_MAX_BYTES = 255
/** Certificates of one signer's chain. */
export const CERTIFICATE_CHAIN_MAX = 8
/** Bundles read for their manifest at once in one process: each may hold a zstd window of ZSTD_WINDOW_LOG_MAX. */
export const MANIFEST_READERS_MAX = 4
/** Issues reported of one manifest. */
export const MANIFEST_ISSUES_MAX = 100
/** `signature.text` and `signature.certificate`. */
export const SIGNATURE_TEXT_MAX_BYTES = 64 * 1024

/** S3: the most that one PutObject or CopyObject takes (5 GiB); above it multipart. */
export const SINGLE_PUT_MAX_BYTES = 5 * 1024 * 1024 * 1024
/** S3: the least size of a part that is not the last. */
export const PART_MIN_BYTES = 5 * 1024 * 1024
/** Size of a part of a streamed multipart upload, grown so that PARTS_MAX parts are enough. */
export const PART_BYTES = 64 * 1024 * 1024
/** S3: the most parts of one upload. */
export const PARTS_MAX = 10_000

/** One request to the store that carries no body, with its retries. */
export const STORE_REQUEST_TIMEOUT_MS = 60_000
/** The answer to a body that was sent whole; a big object may be checked or moved first. */
export const STORE_ANSWER_TIMEOUT_MS = 120_000
/** A server-side copy: the store may take long, byte for byte. */
export const STORE_COPY_TIMEOUT_MS = 600_000
/** Connecting to the store. */
export const STORE_CONNECT_TIMEOUT_MS = 5_000
/**
 * A connection to the store that was idle for this long is not used again. A body cannot be sent twice, so it must not meet
 * a server that closes at that moment; servers keep idle connections for 5 s and more.
 */
export const STORE_IDLE_TIMEOUT_MS = 4_000
/** Attempts at requests without a streamed body. */
export const STORE_ATTEMPTS_MAX = 3
/** Attempts at a conditional write that the store answers with 409: another writer of the same key is under way. */
export const STORE_CONFLICT_ATTEMPTS_MAX = 8
/** A download that waits for bytes of the store, which sends none for this long, ends with an error. */
export const STORE_STALL_TIMEOUT_MS = 60_000
/** Folders of the fs store that are remembered as durable; then they are forgotten and synced again. */
export const DURABLE_FOLDERS_MAX = 1000
/** fs store: attempts at linking a file into a folder that others keep removing because it is empty. */
export const FOLDER_ATTEMPTS_MAX = 32
/** Object keys, and one segment of a key, in bytes of UTF-8: the limits of S3 and of common file systems. */
export const OBJECT_KEY_MAX_BYTES = 1024
export const OBJECT_KEY_SEGMENT_MAX_BYTES = 255
/** Writers that race for one key in the start-up probe. */
export const PROBE_WRITERS = 8
/** Races for each way of writing in the probe. */
export const PROBE_ROUNDS = 3
/** How long a good answer of the store to "are you there?" is believed. */
export const STORE_CHECK_TTL_MS = 5_000
/** How long one check of a dependency may take. */
export const CHECK_TIMEOUT_MS = 3_000
/** How long the start waits for the store's first answer before it goes on without. */
export const STORE_START_TIMEOUT_MS = 10_000
/** How long answers to uploads that shutdown cut off may take to leave. */
export const SHUTDOWN_FLUSH_MS = 1_000
/** Between attempts to reach the store that was not there at start. */
export const STORE_RETRY_INTERVAL_MS = 5_000

/** How often running uploads write their progress to the records, which is also how they learn of an abort elsewhere. */
export const PROGRESS_INTERVAL_MS = 1_000
/** How often a watcher of an upload looks at the record where no local hint came. */
export const WATCH_POLL_INTERVAL_MS = 1_000
/** Progress events of one watcher: at most one per this time. */
export const WATCH_PROGRESS_INTERVAL_MS = 250
/** Comment line on an idle event stream. */
export const EVENT_HEARTBEAT_INTERVAL_MS = 15_000

/** Rows or keys taken by one step of the sweeper or the collector. */
export const SWEEP_BATCH = 500
/** Failures of one sweep that are logged one by one; the others are only counted. */
export const SWEEP_FAILURES_LOGGED_MAX = 20
/** Deletes that the sweeper has under way at once. */
export const SWEEP_CONCURRENCY = 8
/** Entries of a list answer. */
export const PAGE_MAX = 100
export const PAGE_DEFAULT = 20
/** Counted callers of one rate-limit bucket in memory; the least recently seen is forgotten. */
export const RATE_LIMIT_KEYS_MAX = 10_000
/** Uploads whose progress one statement notes. */
export const PROGRESS_ROWS_MAX = 500
/** A collector that has not ended with a hash after this long is taken for dead, and another may begin with it. */
export const COLLECT_LEASE_MS = 600_000
/** SQLite: statements that share one transaction. */
export const SQLITE_GROUP_MAX = 256
/** SQLite: how long a writer waits for another process's write. */
export const SQLITE_BUSY_TIMEOUT_MS = 5_000
/** SQLite: the longest pause between two tries of a writer that waits. */
export const SQLITE_BUSY_PAUSE_MAX_MS = 50
/** SQLite: prepared statements kept. */
export const SQLITE_STATEMENTS_MAX = 256
/** Postgres: connections of one process. */
export const POSTGRES_CONNECTIONS_MAX = 10
/** Postgres: connecting, and one statement. */
export const POSTGRES_CONNECT_TIMEOUT_MS = 5_000
export const POSTGRES_STATEMENT_TIMEOUT_MS = 30_000

/** Header block of a request; more is answered with 431. */
export const HEADERS_MAX_BYTES = 16 * 1024
/** How long the header block of a request may take to arrive. */
export const HEADERS_TIMEOUT_MS = 30_000
/** Idle keep-alive connections; longer than the 60 s of common load balancers, so that they close first. */
export const KEEP_ALIVE_TIMEOUT_MS = 72_000
/** Connections of one server at once; more are closed as they come. Each may hold one answer and what it is read from. */
export const CONNECTIONS_MAX = 5_000
/** Between log lines about connections that were closed for that. */
export const CONNECTIONS_DROPPED_LOG_INTERVAL_MS = 60_000
/** Requests of one connection that wait for the answer to the one under way. */
export const PIPELINED_MAX = 8
/** A client that takes nothing of its answer for this long is cut off; and while shutting down. */
export const ANSWER_STALL_TIMEOUT_MS = 60_000
export const ANSWER_STALL_STOPPING_MS = 3_000
/** How long a connection whose body was not read stays, unread, so that its client can fetch the answer. */
export const CLOSE_LINGER_MS = 500
/** Retry-After of requests that arrive while the service shuts down. */
export const SHUTDOWN_RETRY_AFTER_SECONDS = 5
/** Event streams of one process at once: each asks the records once in WATCH_POLL_INTERVAL_MS. */
export const EVENT_STREAMS_MAX = 2_000
/** Retry-After where they are all taken. */
export const EVENT_STREAMS_RETRY_AFTER_SECONDS = 30
/** An event stream whose client takes nothing for this long is ended. */
export const EVENT_STALL_TIMEOUT_MS = 60_000
/** At shutdown: how long an event stream has to deliver its last line. */
export const EVENT_CLOSE_GRACE_MS = 1_000
/** What an event stream tells its client to wait before it connects again, at shutdown. */
export const EVENT_RETRY_MS = 3_000
/** Links of a chain of causes that a log line shows. */
export const LOGGED_CAUSES_MAX = 8
