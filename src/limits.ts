/** Every bound that is not configuration. Unit last in the name; each says what it protects. */

/** Query `filename`, in bytes of UTF-8: the limit of common file systems. */
export const FILENAME_MAX_BYTES = 255
/** Body of a JSON request (finalize carries a manifest of at most 1 MiB as an escaped string). */
export const JSON_BODY_MAX_BYTES = 4 * 1024 * 1024
/** `reason` of an abort, in characters. */
export const ABORT_REASON_MAX_CHARACTERS = 500
/** Water marks of the stream between a request and the store. Two of them is all an upload holds in memory. */
export const STREAM_HIGH_WATER_MARK_BYTES = 256 * 1024
/** What is read at once of a connection to the store. */
export const STORE_READ_BYTES = 64 * 1024
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
/** Part of a body of unknown length, and what goes as one request. It is held whole, since its length must be known first. */
export const UNKNOWN_PART_BYTES = 8 * 1024 * 1024
/** Of such parts that are kept for the next body when theirs is stored. */
export const SPARE_PARTS_MAX = 4

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
/** How often dependencies are looked at for /health. */
export const HEALTH_INTERVAL_MS = 30_000
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
/** First bytes of a file by which its type is told. */
export const SNIFF_BYTES = 4100
/** Signed addresses of files: how long they work, at most and where nobody says. */
export const SIGNED_URL_MAX_SECONDS = 604_800
export const SIGNED_URL_DEFAULT_SECONDS = 3_600
/** A read that is sent on to the store has to begin within this time. */
export const REDIRECT_EXPIRES_SECONDS = 300
/** Name of a file as a caller gives it; it is cleaned and cut to FILENAME_MAX_BYTES. */
export const FILENAME_GIVEN_MAX_CHARACTERS = 1_024
/** Body of a question for permission. */
export const PERMISSION_BODY_MAX_BYTES = 16 * 1024
/** Asking PERMISSION_CALLBACK_URL: until there is a connection, and until there is an answer; and how many at once. */
export const PERMISSION_CONNECT_TIMEOUT_MS = 5_000
export const PERMISSION_TIMEOUT_MS = 10_000
export const PERMISSION_CALLS_MAX = 128
/** Files that one request of a search looks at, and how many of them are read at once. */
export const FILE_SEARCH_ROWS_MAX = 2_000
export const FILE_SEARCH_BATCH = 500
/** Redis: connecting, and one answer. A connection that owes one for longer is dropped. */
export const REDIS_CONNECT_TIMEOUT_MS = 2_000
export const REDIS_ANSWER_TIMEOUT_MS = 1_000
/** Before Redis is tried again, doubled with each failure up to the second figure; a quarter more or less. */
export const REDIS_RECONNECT_MIN_MS = 100
export const REDIS_RECONNECT_MAX_MS = 5_000
/** Between two log lines about counters that Redis did not keep. */
export const REDIS_COUNT_LOG_INTERVAL_MS = 60_000
/** Characters of a session token. */
export const SESSION_TOKEN_MAX_CHARACTERS = 512
/** Bytes of what Redis holds of one session. */
export const SESSION_VALUE_MAX_BYTES = 64 * 1024
/** Sessions that are remembered, and for how long: one that was ended lives on for that time. */
export const SESSIONS_REMEMBERED_MAX = 256
export const SESSIONS_REMEMBERED_MS = 60_000
/** Keys of session tokens derived at once: they take threads from files and names. And requests that wait for that. */
export const SESSION_DERIVATIONS_MAX = 2
export const SESSION_DERIVATIONS_WAITING_MAX = 1_000
/** A pickle: nesting, opcodes (so also values and memo), bytes of an integer, and characters of all its texts, repeated ones too. */
export const PICKLE_DEPTH_MAX = 16
export const PICKLE_OPCODES_MAX = 20_000
export const PICKLE_INTEGER_MAX_BYTES = 64
export const PICKLE_CHARACTERS_MAX = 256 * 1024
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
/** One part of a path, percent-encoded: the name of a file of FILENAME_MAX_BYTES, and more. */
export const PATH_PART_MAX_CHARACTERS = 1024
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

/** Dimensions of one tensor. */
export const TENSOR_RANK_MAX = 16
/** Elements of a tensor that are written as JSON before the event loop turns to others. */
export const TENSOR_JSON_SLICE_ELEMENTS = 16_384
/** One dimension of a tensor. */
export const TENSOR_DIMENSION_MAX = 2 ** 31 - 1
/** Tensors of one inference, in and out each. */
export const TENSORS_MAX = 256
/** Bytes of an answer of inference below which compressing it is not worth it. */
export const COMPRESS_MIN_BYTES = 1024
/** Body of a request to the model repository. */
export const REPOSITORY_BODY_MAX_BYTES = 64 * 1024

/** An idle worker that was told to stop ends within this time, or is killed. */
export const WORKER_STOP_GRACE_MS = 2_000
/** A worker that was killed is waited for this long; then its run is over for whoever asked, and it is only logged. */
export const WORKER_KILL_WAIT_MS = 5_000
/** A worker thread in the middle of a run cannot be killed: closing the pool waits for it this long. */
export const WORKER_THREAD_CLOSE_MS = 30_000
/** What a worker said last may still be on its way when it has ended: this is how long it is listened to. */
export const WORKER_LAST_WORDS_MS = 1_000
/** Before the next try at a worker that died at its start, doubled with each one up to the second figure. */
export const WORKER_RESTART_MIN_MS = 250
export const WORKER_RESTART_MAX_MS = 30_000
/** A worker that lived this long, or did one run, counts as one that starts. */
export const WORKER_STABLE_MS = 10_000
/** Messages of one worker that are no messages, or belong to nothing that runs: then it is killed. */
export const WORKER_STRAY_MESSAGES_MAX = 100
/** One message of a worker: the tensors of an answer, and what is said of them. */
export const WORKER_MESSAGE_MAX_BYTES = 272 * 1024 * 1024
/** Of a line that a worker writes to its standard output or error. */
export const WORKER_LOG_LINE_MAX_CHARACTERS = 4096
/** Loading a model to see whether it loads, the download of it included; and bringing one of this machine in. */
export const MODEL_CHECK_TIMEOUT_MS = 120_000
export const MODEL_IMPORT_TIMEOUT_MS = 300_000
/** Workers that may die over one model before the model is taken for the reason. */
export const MODEL_CHECK_ATTEMPTS_MAX = 2
/** Retry-After where all workers are busy, or the one that was at it was lost. */
export const BUSY_RETRY_AFTER_SECONDS = 1
/** Priorities of jobs go from -JOB_PRIORITY_MAX to this. */
export const JOB_PRIORITY_MAX = 10

/** Runs that wait for a worker of this process: synchronous inferences and load checks; more are told to come later. */
export const POOL_LINE_MAX = 256
/** A worker that has not said that it is ready by then is taken for dead: loading a GPU's libraries takes long. */
export const WORKER_START_TIMEOUT_MS = 60_000
/** What somebody waits for the answer of gets a worker of its own when it has waited this long for workers that are all at jobs. */
export const SPARE_WORKER_AFTER_MS = 500
/** That worker ends after this long without another order. */
export const SPARE_WORKER_IDLE_MS = 60_000
/** Keys of staging that one run of a worker writes, and that are remembered; the sweeper comes for more. */
export const STAGING_KEYS_PER_RUN_MAX = 10_000
/** Loaded models of one worker; the least recently used is released. */
export const SESSIONS_PER_WORKER_MAX = 4
/** A worker that was started to look at one model ends after this long without another. */
export const ON_DEMAND_IDLE_MS = 60_000
/** Folders of models below MODELS_DIR. */
export const MODEL_FOLDERS_MAX = 10_000
/** Attempts at a hash that is being collected, and the pause before the next, where nobody can be told to come again. */
export const RECLAIM_ATTEMPTS_MAX = 5
export const RECLAIM_PAUSE_MS = 1_000

/** One tensor of a model, declared in it or given to it: what protobuf and ONNX Runtime hold. */
export const MODEL_TENSOR_MAX_BYTES = 2 ** 31
/** Nesting of messages in an ONNX file (protobuf's own bound), and fields looked at in it. */
export const MODEL_DEPTH_MAX = 100
export const MODEL_FIELDS_MAX = 20_000_000
/** All models that workers keep in MODEL_CACHE_DIR; the least recently used go. */
export const MODEL_CACHE_MAX_BYTES = 32 * 1024 * 1024 * 1024
/** Unfinished downloads of models, and folders of runs, that were left by workers that were killed. */
export const WORKER_LEFTOVERS_MAX_AGE_MS = 86_400_000
/** Of a message of a failed run: the runtime's reason, a command's last word. */
export const INFERENCE_MESSAGE_MAX_CHARACTERS = 500
/** Progress of one run that crosses from worker to pool: at most one message per this time. */
export const WORKER_PROGRESS_INTERVAL_MS = 50
/** A worker looks for its parent this often: it ends within 5 s of the parent's death even in the middle of a run. */
export const WATCHDOG_INTERVAL_MS = 1_000
/** Trying out an execution provider in a process of its own. */
export const PROVIDER_PROBE_TIMEOUT_MS = 30_000

/** Pixels of an image, where the model's manifest sets no bound; and of one that comes out of a model. */
export const IMAGE_PIXELS_MAX = 16_384 * 16_384
export const IMAGE_RESULT_PIXELS_MAX = 1_000_000_000
/** Bytes of an image, as it came, decoded, or made by a model, that are held in memory; more lies on disk meanwhile. */
export const IMAGE_IN_MEMORY_MAX_BYTES = 32 * 1024 * 1024
/** What a worker keeps of each piece of memory that the next run can use again; larger ones are made anew. */
export const WORKER_KEPT_MEMORY_MAX_BYTES = 128 * 1024 * 1024
/** Tiles that an image goes through a model in: side and overlap, in pixels of the input. */
export const TILE_DEFAULT_PIXELS = 1280
/** Sides of tiles that are chosen here are multiples of this, as many models want it. */
export const TILE_UNIT_PIXELS = 32
export const TILE_OVERLAP_DEFAULT_PIXELS = 32
/** How many times as wide and high an image a model may make of one. */
export const IMAGE_SCALE_MAX = 16
/** Width and height that an image is given to models that take any. */
export const IMAGE_FREE_SIDE_PIXELS = 224
/** Entries of `classes.json`. */
export const TOP_K_MAX = 1000
export const TOP_K_DEFAULT = 5
/** `{ "inputs": … }` of a job, and outputs that are written as JSON: texts of this length are still whole strings. */
export const TENSOR_JSON_MAX_BYTES = 64 * 1024 * 1024

/** EXEC_TASKS_FILE, the commands in it, and arguments of one. */
export const EXEC_TASKS_FILE_MAX_BYTES = 1024 * 1024
export const EXEC_TASKS_MAX = 1000
export const EXEC_ARGUMENTS_MAX = 256
/** What a command may do where its entry says nothing: time, bytes written, files that become results. */
export const EXEC_TIMEOUT_DEFAULT_MS = 600_000
export const EXEC_OUTPUT_MAX_DEFAULT_BYTES = 1024 * 1024 * 1024
export const EXEC_FILES_MAX_DEFAULT = 100
/** How often the folder of a running command is measured. */
export const EXEC_MEASURE_INTERVAL_MS = 250
/** Of a line that a command writes to its output; the rest of a longer one is passed over. */
export const EXEC_LINE_MAX_BYTES = 64 * 1024
/** How long the output of a command that has ended is read where something that it left running holds it open. */
export const EXEC_PIPES_GRACE_MS = 1000

/** Asking ffmpeg for its version, at the start. */
export const FFMPEG_VERSION_TIMEOUT_MS = 10_000
/** Looking at a video: at its header, and then through all of it to count its frames. */
export const VIDEO_PROBE_TIMEOUT_MS = 60_000
export const VIDEO_COUNT_TIMEOUT_MS = 300_000
/** What may be said of a video that has no end of it: streams, tags. */
export const VIDEO_PROBE_OUTPUT_MAX_BYTES = 4 * 1024 * 1024
/** Parts of a file whose lengths are looked at: a day in parts of a second. */
export const VIDEO_PARTS_MAX = 100_000
/** Pixels of one frame, less where the model's manifest says so (8K and a little more), and of one that a model makes; sides of both. */
export const VIDEO_PIXELS_MAX = 8192 * 4608
export const VIDEO_RESULT_PIXELS_MAX = 16_384 * 8704
export const VIDEO_SIDE_MAX = 16_384
/** Frames, and seconds from the first to the last. */
export const VIDEO_FRAMES_MAX = 2_000_000
export const VIDEO_DURATION_MAX_SECONDS = 12 * 3600
/** Streams of sound that are kept. */
export const VIDEO_SOUNDS_MAX = 16
/** One piece of memory of ffmpeg: whatever a header says. */
export const VIDEO_ALLOCATION_MAX_BYTES = 1024 * 1024 * 1024
/** The part of the frames that may be beyond decoding; up to that the decoder conceals them. */
export const VIDEO_DAMAGED_MAX = 0.1
/** Frames that wait in ffmpeg to be written, or to be encoded: it works while we do. */
export const VIDEO_QUEUE_FRAMES = 2
/** What is kept of the messages of ffmpeg. */
export const VIDEO_MESSAGES_MAX_CHARACTERS = 4096

/** A place among a user's active jobs that was reserved, and whose holder gave no sign for this long, is free again. */
export const RESERVATION_TTL_MS = 60_000
/** Jobs whose time to wait is over that one claim puts back among those that are ready. */
export const DUE_JOBS_MAX = 500
/** How long a count of the waiting jobs is believed where it is further than QUEUE_COUNT_MARGIN from the limit. */
export const QUEUE_COUNT_TTL_MS = 200
/** More jobs than other nodes add within that time. Nearer to the limit, creations count one after the other. */
export const QUEUE_COUNT_MARGIN = 2_000
/** Pause before the connection for hints is opened again, doubled with each failure up to the second figure. */
export const HINTS_RECONNECT_MIN_MS = 100
export const HINTS_RECONNECT_MAX_MS = 5_000
/** How often that connection is asked whether it is still one. */
export const HINTS_CHECK_INTERVAL_MS = 15_000
/** How long closing it may take. */
export const HINTS_CLOSE_MS = 1_000
/** Tensors that answer a synchronous inference, together: they cross from worker to service whole. */
export const INFERENCE_ANSWER_MAX_BYTES = 256 * 1024 * 1024

/** `ref_images` of a job: how many, and of each. */
export const REF_IMAGES_MAX = 100
export const REF_IMAGE_MAX_BYTES = 10 * 1024 * 1024
/** Fields of a multipart body, headers of one of its parts, and what frames and precedes its parts. */
export const MULTIPART_FIELDS_MAX = 16
export const MULTIPART_PART_HEADERS_MAX_BYTES = 8 * 1024
/** No more of a file waits than one chunk of the request: several would be copied into one when they are read. */
export const MULTIPART_FILE_HIGH_WATER_MARK_BYTES = 64 * 1024
export const MULTIPART_FRAME_MAX_BYTES = 4 * 1024 * 1024
/** Text of a job's request that names something: a model, a version, a result. */
export const JOB_NAME_MAX_CHARACTERS = 255
/** A one-time download lives this long where nobody says. */
export const DOWNLOAD_TOKEN_DEFAULT_SECONDS = 3_600
/** `user_id`, and the key of an idempotent request. */
export const USER_ID_MAX_CHARACTERS = 128
export const IDEMPOTENCY_KEY_MAX_CHARACTERS = 128
/** `params` of a job: nesting, and as JSON. */
export const JOB_PARAMS_DEPTH_MAX = 32
export const JOB_PARAMS_MAX_BYTES = 64 * 1024
/** Copies of one job's inputs or results that are under way at once. */
export const JOB_COPIES_MAX = 4
/** Jobs of one process whose model has run and whose results are being stored; with more it takes no new ones. */
export const JOBS_PERSISTING_MAX = 64
/** How often a node with free workers looks for jobs of which no hint came. */
export const CLAIM_POLL_INTERVAL_MS = 1_000
/** Progress of one job that is written: at most once in this time. */
export const JOB_PROGRESS_INTERVAL_MS = 250
/** Stages of one job whose progress waits to be written. */
export const JOB_STAGES_WAITING_MAX = 16
/** Between two looks at which of the held jobs are to be cancelled, where hints come thick and fast. */
export const HELD_LOOK_INTERVAL_MS = 250
/** Before the next attempt at a job: this, times 4 with each further one, up to the second; a quarter more or less. */
export const JOB_BACKOFF_MIN_MS = 1_000
export const JOB_BACKOFF_MAX_MS = 300_000
/** Between tries at noting how an attempt ended, while the records cannot be reached. */
export const RECORDS_RETRY_INTERVAL_MS = 500
/** Jobs with lost leases that one transaction looks at; finished jobs that go, and lapsed rows, in one step. */
export const REAP_BATCH = 100
export const RETENTION_BATCH = 100
/** How often jobs that are older than JOB_RETENTION_DAYS, and lapsed rows, are looked for. */
export const RETENTION_INTERVAL_MS = 60_000
/** Events of a job that are read at once. */
export const JOB_EVENTS_BATCH = 500
/** Longest life of a one-time download. */
export const DOWNLOAD_TOKEN_MAX_SECONDS = 86_400
/** Retry-After where the queue is full. */
export const QUEUE_FULL_RETRY_AFTER_SECONDS = 5

/** Address of a webhook. */
export const WEBHOOK_URL_MAX_CHARACTERS = 2_048
/** One delivery, from the look-up of the name to the end of the answer, of which no more is read than this. */
export const WEBHOOK_TIMEOUT_MS = 10_000
export const WEBHOOK_ANSWER_MAX_BYTES = 16 * 1024
/** Attempts at delivering an event; progress has one. */
export const WEBHOOK_ATTEMPTS_MAX = 6
/** Before the second attempt, doubled with each further one; a quarter more or less. */
export const WEBHOOK_BACKOFF_MIN_MS = 1_000
/** Progress of one job goes to its webhook at most once in this time. */
export const WEBHOOK_PROGRESS_INTERVAL_MS = 500
/** Requests to webhooks that one process has under way. */
export const WEBHOOKS_MAX = 32
/** A node that delivers to a webhook and gives no sign for this long is taken for dead: another goes on. */
export const WEBHOOK_LEASE_MS = 30_000
/** How often what no node delivers is looked for; and how many jobs of that kind one process delivers of at once. */
export const WEBHOOK_LOOK_INTERVAL_MS = 2_000
export const WEBHOOK_TURNS_MAX = 256
/** The last event of a job that was removed is kept this long for watchers; where its webhook was not told of it, longer. */
export const FAREWELL_TTL_MS = 60_000
export const UNTOLD_FAREWELL_TTL_MS = 86_400_000
/** Rows that a count of jobs that have ended is spread over. */
export const JOB_COUNT_SHARDS = 16
/** How often a process that runs jobs says that it is there, and for how long that is believed; then its row goes. */
export const NODE_BEAT_INTERVAL_MS = 5_000
export const NODE_SEEN_MS = 15_000
export const NODE_FORGOTTEN_MS = 600_000
/** Processes that the queue's figures name. */
export const NODES_SHOWN_MAX = 1_000
/** At shutdown: how long deliveries have to end. */
export const WEBHOOK_CLOSE_GRACE_MS = 5_000
/** Promotions that a job is shown with: the newest. */
export const PROMOTIONS_SHOWN_MAX = 100
/** Promotions that one process has under way, or waiting for another of the same to end; more are told to come later. */
export const PROMOTIONS_MAX = 64
export const PROMOTIONS_RETRY_AFTER_SECONDS = 10
/** A node that sends to the file gateway and gives no sign for this long is taken for dead: another may send. */
export const PROMOTION_LEASE_MS = 30_000
/** How often somebody who waits for another's promotion of the same looks whether it is there. */
export const PROMOTION_POLL_INTERVAL_MS = 250
/** Segments of a key at the file gateway, and the key, in bytes. */
export const GATEWAY_KEY_MAX_BYTES = 1024
export const GATEWAY_KEY_SEGMENT_MAX_BYTES = 255
/** From this size on the file gateway is asked whether it wants the bytes (`Expect: 100-continue`), and how long its word is waited for. */
export const GATEWAY_EXPECT_MIN_BYTES = 1024 * 1024
export const GATEWAY_EXPECT_TIMEOUT_MS = 1_000
/** The service's own token: fetching one, the answer, and how long before its end it is not used any more. */
export const SERVICE_TOKEN_TIMEOUT_MS = 10_000
export const SERVICE_TOKEN_ANSWER_MAX_BYTES = 64 * 1024
export const SERVICE_TOKEN_EARLY_MS = 60_000

/** How long the start waits for the models of MODELS_DIR before it goes on without those that are not there yet. */
export const MODELS_START_WAIT_MS = 10_000
/** Outputs of a synchronous inference that a node without workers reads back, as JSON. */
export const INFER_RESULT_MAX_BYTES = 64 * 1024 * 1024

/** One credential of a request, before anything of it is looked at. Together they have HEADERS_MAX_BYTES. */
export const CREDENTIAL_MAX_CHARACTERS = 12 * 1024
/** Names of a caller: subject, client, account, tenant. */
export const IDENTITY_MAX_CHARACTERS = 255
/** Cookies of one request that are looked at. */
export const COOKIES_MAX = 100
/** Tokens whose check is remembered, and for how long at most; a token that is over is not. */
export const VERIFIED_TOKENS_MAX = 1_000
export const VERIFIED_TOKEN_MAX_AGE_MS = 60_000
/** One answer of an issuer: its keys, or its discovery document. */
export const JWKS_MAX_BYTES = 256 * 1024
export const JWKS_KEYS_MAX = 64
export const JWKS_TIMEOUT_MS = 5_000
/** Between two tries at keys while there are none at all. */
export const JWKS_RETRY_INTERVAL_MS = 1_000
/** Keys that could not be fetched anew are used for this long. */
export const JWKS_STALE_MAX_MS = 86_400_000
/** Retry-After where nobody can say whether a credential is good. */
export const AUTH_RETRY_AFTER_SECONDS = 5
/** How long the token of a guest lives where nobody says, and at most. */
export const GUEST_TOKEN_DEFAULT_SECONDS = 3_600
export const GUEST_TOKEN_MAX_SECONDS = 86_400
/** How long a minted token lives at most, where it has an end: ten years. */
export const TOKEN_LIFETIME_MAX_SECONDS = 315_360_000
/** Scopes of a minted token, and characters of one. */
export const TOKEN_SCOPES_MAX = 32
export const SCOPE_MAX_CHARACTERS = 128
/** Body of a request that makes a token. */
export const TOKEN_BODY_MAX_BYTES = 16 * 1024
/** A minted token that is over is kept this long, so that its caller is told why it is refused, and lists show it. */
export const TOKENS_OVER_KEPT_MS = 604_800_000

/** Rows of activity that one transaction numbers. */
export const ACTIVITY_NUMBERED_MAX = 500
/** How long callers are told of what was (GET /events). */
export const ACTIVITY_RETENTION_MS = 7 * 86_400_000
/** Events of activity that are read at once. */
export const ACTIVITY_BATCH = 100
/** An upload into a media library that was begun takes bytes for this long. */
export const MEDIA_UPLOAD_TTL_MS = 15 * 60_000
/** Media uploads and rows of activity that one step of their pruning looks at, and how often that is done. */
export const MEDIA_PRUNE_BATCH = 500
export const MEDIA_PRUNE_INTERVAL_MS = 300_000
/** Path in a media library as it is given: `media/`, a user, an id or a folder, and a name of FILENAME_MAX_BYTES. */
export const MEDIA_PATH_MAX_CHARACTERS = 1024

/** Asking a GPU node how it is, before each job; and telling it that a job is not wanted any more. */
export const NODE_HEALTH_TIMEOUT_MS = 5_000
/** Between two questions whether a machine that models run on, and that was away, is back. */
export const REMOTE_ASK_INTERVAL_MS = 2_000
export const NODE_CANCEL_TIMEOUT_MS = 5_000
/** A GPU node that takes nothing of a body, gives nothing of a result, or does not begin to answer for this long is given up. */
export const NODE_STALL_TIMEOUT_MS = 60_000
/** Between probes of an idle connection to a GPU node: one whose machine is gone is noticed. */
export const NODE_KEEP_ALIVE_MS = 15_000
/** What a GPU node says in one piece: a line of a job's progress, which at its end names every result; and an answer that is no stream. */
export const NODE_LINE_MAX_BYTES = 4 * 1024 * 1024
export const NODE_ANSWER_MAX_BYTES = 64 * 1024
/** All results of one job at a GPU node, together: what a store takes at once. */
export const NODE_RESULT_MAX_BYTES = 5 * 1024 * 1024 * 1024
/** Results of one job, and characters of what each is called. */
export const NODE_RESULTS_MAX = 10_000
export const NODE_NAME_MAX_CHARACTERS = 255
/** How often a GPU node looks for files and results that are older than WORK_TTL_MINUTES. */
export const NODE_EXPIRE_INTERVAL_MS = 60_000
/** `inputPath` and `outputPath`. */
export const NODE_PATH_MAX_BYTES = 4096

/** Connecting to an inference server (INFER_URL), and the shortest answers of it: what it is, what a model takes, is it ready? */
export const OIP_CONNECT_TIMEOUT_MS = 5_000
export const OIP_METADATA_TIMEOUT_MS = 5_000
export const OIP_METADATA_MAX_BYTES = 1024 * 1024
/** What an inference server says of itself and of its models is believed this long, and of so many models. */
export const OIP_METADATA_MAX_AGE_MS = 30_000
export const OIP_MODELS_KNOWN_MAX = 256
/** An answer of an inference server that was begun and does not go on for this long is given up. */
export const OIP_STALL_TIMEOUT_MS = 30_000
/** Between probes of a connection to an inference server on which nothing comes. */
export const OIP_KEEP_ALIVE_MS = 15_000
/** One answer of an inference server, all outputs together: a worker holds it whole. */
export const OIP_ANSWER_MAX_BYTES = 1024 * 1024 * 1024
