/**
 * npm run migrate-files -- from-folder | from-bucket | from-urls | between-stores   (options.ts has the help)
 *
 * Imports files of elsewhere (migrate/import.ts), or copies the objects of one store to another (migrate/between-stores.ts).
 * Both are run again as they were after whatever ended them; those files say why nothing is doubled or lost. Safe beside a
 * running service and its collector.
 */
import { readConfig, type Config } from '../src/config.ts'
import type { Log } from '../src/ingest/context.ts'
import { probeStore } from '../src/objects/probe.ts'
import { RecordStoreFailed } from '../src/records/port.ts'
import { openObjectStore } from '../src/stores.ts'
import { bucketSource } from './migrate/bucket.ts'
import { copyObject, referencedObjects, unnoted, type ObjectToCopy, type Pair } from './migrate/between-stores.ts'
import { endOnSignals } from './migrate/end-on-signals.ts'
import { folderSource } from './migrate/folder.ts'
import { importer } from './migrate/import.ts'
import { HELP, readCommand, UsageError, type Command, type CommonOptions, type StoreName } from './migrate/options.ts'
import { showProgress, type Expected } from './migrate/progress.ts'
import { countReasons, openReport, totalsTable } from './migrate/report.ts'
import { isRefused, type Entry, type Source } from './migrate/source.ts'
import { openIngest, openRecords } from './migrate/stores.ts'
import { urlsSource } from './migrate/urls.ts'
import { workThrough, type Outcome, type WorkOptions } from './migrate/work.ts'

type Asked = Exclude<Command, { command: 'help' }>
type ImportAsked = Exclude<Asked, { command: 'between-stores' }>
type CopyAsked = Extract<Asked, { command: 'between-stores' }>

const EXIT = { failed: 1, notBegun: 2 } as const
const ending = endOnSignals(process)

/** The lines of the entries are for whoever runs it: of the rest only what went wrong beside them. */
const log: Log = { debug() {}, info() {}, warn: warn, error: warn }

function warn(fields: Record<string, unknown>): void {
  console.error(`${String(fields.action)}: ${(fields.err as Error | undefined)?.message ?? ''}`)
}

async function sourceOf(asked: ImportAsked): Promise<Source> {
  switch (asked.command) {
    case 'from-folder': return await folderSource(asked.folder, asked.label)
    case 'from-urls': return await urlsSource(asked.list, { allowPrivate: asked.allowPrivate, bodyTimeoutMs: asked.timeoutMs })
    case 'from-bucket': return bucketSource({
      ...asked, maxSockets: asked.concurrency + 1,
      accessKeyId: environment('SOURCE_S3_ACCESS_KEY_ID'), secretAccessKey: environment('SOURCE_S3_SECRET_ACCESS_KEY')
    })
  }
}

/** Secrets come from there alone: command lines are seen by everyone on the machine. @throws UsageError */
function environment(name: string): string {
  const value = process.env[name]
  if (value === undefined || value === '') throw new UsageError(`${name} is missing in the environment`)
  return value
}

async function importFrom(asked: ImportAsked): Promise<boolean> {
  const config = readConfig(process.env)
  if (config.OBJECT_STORE === 'memory') throw new UsageError('OBJECT_STORE=memory keeps nothing for the service to find')
  const source = await sourceOf(asked)
  const { context, moved, close } = await openIngest(config, log)
  try {
    if (!asked.dryRun) await context.readiness.ensure()
    else if (config.OBJECT_STORE === 's3') await context.store.check()
    const perform = await importer(context, { ...asked, maxBytes: asked.maxBytes ?? config.MAX_FILE_SIZE_BYTES, log })
    return await run(asked, { entries: () => source.entries(ending.draining), perform, sizeOf: (entry: Entry) => isRefused(entry) ? 0 : entry.size ?? 0, moved })
  } finally {
    await close()
    await source.close()
  }
}

const S3_NAMES = ['S3_ENDPOINT', 'S3_BUCKET', 'S3_ACCESS_KEY_ID', 'S3_SECRET_ACCESS_KEY'] as const

/** The configuration as it would be with this store. */
function configWith(name: StoreName): Config {
  const without = name === 's3' ? {} : Object.fromEntries(S3_NAMES.map(each => [each, '']))
  return readConfig({ ...process.env, ...without, OBJECT_STORE: name })
}

async function copyBetween(asked: CopyAsked): Promise<boolean> {
  const [from, to] = [configWith(asked.from), configWith(asked.to)]
  const records = await openRecords(from)
  const pair: Pair = { source: openObjectStore(from), target: openObjectStore(to) }
  let moved = 0
  try {
    await pair.source.check()
    if (!asked.dryRun && (asked.to === 'fs' || to.S3_CREATE_BUCKET)) await pair.target.createBucket()
    await pair.target.check()
    const abilities = asked.dryRun ? undefined : await probeStore(pair.target, unnoted)
    const complete = await run(asked, {
      entries: () => referencedObjects(records, ending.draining), sizeOf: (object: ObjectToCopy) => object.size ?? 0, moved: () => moved,
      perform: (object, signal) => copyObject(pair, object, { abilities, verify: asked.verify, onBytes: count => { moved += count } }, signal)
    })
    if (complete && !asked.dryRun) console.log(`all that records point at is in ${asked.to}: with the service stopped, this says so for good, and it can be started with OBJECT_STORE=${asked.to}`)
    return complete
  } finally {
    await records.close()
    await Promise.all([pair.source.close(), pair.target.close()])
  }
}

interface Work<T> extends Pick<WorkOptions<T>, 'perform'> {
  entries(): AsyncIterable<T>
  sizeOf(entry: T): number
  moved(): number
}

/** True where nothing failed and it was not ended early. */
async function run<T>(asked: CommonOptions & { command: string }, { entries, perform, sizeOf, moved }: Work<T>): Promise<boolean> {
  const report = openReport(asked.report, asked.command)
  const reasons = countReasons()
  const progress = showProgress({ out: process.stdout, moved })
  void expected(entries(), sizeOf).then(progress.expect, () => {})
  const result = await workThrough({
    entries: entries(), perform, concurrency: asked.concurrency, ending,
    onOutcome(outcome: Outcome) {
      report.note(outcome)
      reasons.note(outcome)
      progress.note(outcome)
    }
  })
  progress.stop()
  report.finish(result)
  console.log(['', ...totalsTable(result, asked.dryRun), ...reasons.lines()].join('\n'))
  return result.totals.failed === 0 && result.ended === undefined
}

/** Counted beside the work, for the bar alone. */
async function expected<T>(entries: AsyncIterable<T>, sizeOf: (entry: T) => number): Promise<Expected> {
  const all: Expected = { entries: 0, bytes: 0 }
  if (!process.stdout.isTTY) return all
  for await (const entry of entries) {
    all.entries += 1
    all.bytes += sizeOf(entry)
  }
  return all
}

function hintOf(error: unknown): string {
  if (error instanceof UsageError) return '; --help says more'
  return error instanceof RecordStoreFailed ? '; a newer version of the service has to be started once, which brings its records up to date' : ''
}

try {
  const asked = readCommand(process.argv.slice(2))
  if (asked.command === 'help') console.log(HELP)
  else {
    const complete = asked.command === 'between-stores' ? await copyBetween(asked) : await importFrom(asked)
    process.exitCode = ending.exitCode() ?? (complete ? 0 : EXIT.failed)
  }
} catch (error) {
  console.error(`migrate-files: ${(error as Error).message}${hintOf(error)}`)
  process.exitCode = EXIT.notBegun
}
