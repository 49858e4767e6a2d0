/** Bounds of the migration commands that nobody sets. */

/** Transfers at once where --concurrency says nothing, and at most: each holds one part of a multipart upload in memory. */
export const CONCURRENCY_DEFAULT = 4
export const CONCURRENCY_MAX = 64
/** Redirects of one address. */
export const REDIRECTS_MAX = 5
/** Characters of an address: those that were signed for a while are long. */
export const URL_MAX_CHARACTERS = 8192
/** Characters of one line of a list. */
export const LINE_MAX_CHARACTERS = 16_384
/** From the look-up of a name to the head of the answer, for each redirect; and until the last byte of the body. */
export const URL_ANSWER_TIMEOUT_MS = 30_000
export const URL_BODY_TIMEOUT_SECONDS = 3600
/** One request to a bucket that is imported from, up to the head of its answer. */
export const BUCKET_REQUEST_TIMEOUT_MS = 60_000
/** Folders within folders. */
export const FOLDER_DEPTH_MAX = 100
/** Failures of our own store or records, one after another, after which nothing else is tried. */
export const OWN_FAILURES_MAX = 8
/** Different reasons that the closing table counts; the report has them all. */
export const REASONS_SHOWN_MAX = 20
/** Characters of a name or a reason on a line for people. */
export const SHOWN_MAX_CHARACTERS = 300
/** How often the bar is drawn. */
export const BAR_INTERVAL_MS = 100
