/**
 * npm run gc -- [--delete] [--grace-hours N]
 * Lists canonical objects that no record points at, and removes them with --delete. HELP says the rest.
 * Safe beside a running service: see src/ingest/collect.ts. Reads the same configuration as the service. It never makes or
 * changes the schema: records that are not there are not the bucket's, and by them all of it would be garbage.
 */
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { readConfig, type Config } from '../src/config.ts'
import { collect, knowsBucket, type CollectStores } from '../src/ingest/collect.ts'
import { openObjectStore, openRecordStore, recordsFile } from '../src/stores.ts'

const GRACE_HOURS = 24
/** A finalize may take this long between its copy and its record; what is younger may be one. */
const GRACE_MIN_HOURS = 1
/** What a shell reports of a program that this signal ended. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const

const HELP = `npm run gc -- [--delete] [--grace-hours N]

Lists the objects of the bucket that no record points at.

  --delete         removes them
  --grace-hours N  leaves what was written or claimed within the last N hours: ${GRACE_HOURS} without it, at least ${GRACE_MIN_HOURS},
                   decimals allowed; more than the clocks of your machines can differ
  --help           this text

SIGINT and SIGTERM end it when the hash at hand is done; a second one ends it at once, and the service's sweeper
finishes that hash later.`

interface Options { help: boolean, remove: boolean, graceHours: number }

function options(): Options {
  const { values } = parseArgs({
    options: { delete: { type: 'boolean', default: false }, 'grace-hours': { type: 'string', default: String(GRACE_HOURS) }, help: { type: 'boolean', default: false } }
  })
  const graceHours = /^\d+(\.\d+)?$/.test(values['grace-hours']) ? Number(values['grace-hours']) : Number.NaN
  if (!(graceHours >= GRACE_MIN_HOURS)) throw new Error(`--grace-hours takes a number from ${GRACE_MIN_HOURS} up`)
  return { help: values.help, remove: values.delete, graceHours }
}

async function main(): Promise<void> {
  const { help, ...asked } = options()
  if (help) return console.log(HELP)
  const config = readConfig(process.env)
  if (config.DATABASE_URL === undefined && !existsSync(recordsFile(config))) {
    throw new Error(`there are no records at ${recordsFile(config)}: set DATABASE_URL or DATA_DIR as the service has it`)
  }
  const stores = { store: openObjectStore(config), records: openRecordStore(config) }
  try {
    await run(config, stores, asked)
  } finally {
    await stores.records.close()
    await stores.store.close()
  }
}

async function run(config: Config, stores: CollectStores, { remove, graceHours }: Omit<Options, 'help'>): Promise<void> {
  await stores.store.check()
  await stores.records.check().catch(error => {
    throw new Error(`the records cannot be used, or the service has never run on them: ${(error as Error).message}`, { cause: error })
  })
  if (remove && !await knowsBucket(stores)) {
    throw new Error(`these records know no object at all, and there are objects: they are not the records of this ${config.OBJECT_STORE === 's3' ? 'bucket' : 'folder'}. Nothing was removed; without --delete, this lists what would be`)
  }
  const signal = endOnSignal()
  let hashes = 0
  let bytes = 0
  for await (const garbage of collect({ ...stores, remove, signal, before: new Date(Date.now() - graceHours * 3_600_000) })) {
    hashes += 1
    bytes += garbage.bytes
    console.log(`${garbage.removed ? 'removed' : 'garbage'} ${garbage.sha256} ${garbage.bytes} bytes ${garbage.keys.length} keys`)
  }
  console.log(`${hashes} hashes, ${bytes} bytes ${remove ? 'removed' : 'could be removed; run again with --delete'}${signal.aborted ? '; ended before it was through' : ''}`)
}

/** Aborts with the first signal. The second finds no listener, and ends the process. */
function endOnSignal(): AbortSignal {
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => {
      process.exitCode = EXIT_CODES[name]
      stop.abort()
    })
  }
  return stop.signal
}

try {
  await main()
} catch (error) {
  console.error(`gc: ${(error as Error).message}`)
  process.exitCode = 1
}
