/**
 * npm run restore -- <folder> [--time T] [--verify]
 *
 * Brings a backup back, into stores that are empty. HELP says the rest. Objects come first and the records last, in one step:
 * until then there is nothing that points at what is missing, and whatever ended it, it is run again as it was.
 */
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { readConfig, type Config } from '../src/config.ts'
import { openObjectStore, openRecordStore, recordsFile } from '../src/stores.ts'
import { copyReferenced } from './backup/copy-objects.ts'
import { assertEmpty, loadSnapshot, migrateFile } from './backup/copy-records.ts'
import { digestOfFile, objectsIn, readNote, recordsIn, syncFile } from './backup/folder.ts'
import { endOnSignals } from './migrate/end-on-signals.ts'

const HELP = `npm run restore -- <folder> [--time T] [--verify]

Brings the newest backup of the folder back, or that of the time T, into the stores of this configuration: no service may run
on them, and their records must be empty (no DATA_DIR/penstock.db, or a fresh database). Objects that are there already stay.
It need not be the kind of stores that the backup is of: this is also the way from SQLite to Postgres and from files to S3.

  --verify  reads again what is there already
  --help    this text

Exit code 0: all of it is there. 1: the records are there, and objects that the backup lacks are missing, each of which is named.
2: there are no records, and objects at most: run it again when what it said is mended.`

const ending = endOnSignals(process)

async function restore(folder: string, time: string | undefined, verify: boolean): Promise<number> {
  const config = readConfig(process.env)
  if (config.OBJECT_STORE === 'memory') throw new Error('OBJECT_STORE=memory keeps nothing for the service to find')
  if (config.DATABASE_URL === undefined && existsSync(recordsFile(config))) throw new Error(`there are records at ${recordsFile(config)} already: nothing is written over them`)
  const note = await readNote(folder, time)
  const kept = recordsIn(folder, note.time)
  if ((await digestOfFile(kept)).sha256 !== note.records.sha256) throw new Error(`${kept} is not as it was written`)
  if (config.DATABASE_URL !== undefined) await assertEmpty(config.DATABASE_URL)
  await mkdir(config.DATA_DIR, { recursive: true, mode: 0o700 })
  const work = await mkdtemp(join(config.DATA_DIR, 'restoring-'))
  const [source, target] = [objectsIn(folder), openObjectStore(config)]
  try {
    // the backup itself is never changed
    const snapshot = join(work, 'records.db')
    await copyFile(kept, snapshot)
    await chmod(snapshot, 0o600)
    await migrateFile(snapshot)
    if (config.OBJECT_STORE === 'fs' || config.S3_CREATE_BUCKET) await target.createBucket()
    await target.check()
    const { done, skipped, bytes, failures, passing, ended } = await copyReferenced(snapshot, source, target, { verify, ending })
    if (ended !== undefined) throw new Error(`${ended}: run it again as it was`)
    if (passing > 0) throw new Error(`${passing} objects could not be copied, though the backup may have them: run it again as it was`)
    await restoreRecords(config, snapshot)
    console.log(`restored ${note.time}: ${done} objects copied (${bytes} bytes), ${skipped} were there, ${failures.length} missing; the service can be started`)
    return failures.length === 0 ? 0 : 1
  } finally {
    await rm(work, { recursive: true, force: true })
    await Promise.all([source.close(), target.close()])
  }
}

/** The last step: before it there are no records, after it there are all. */
async function restoreRecords(config: Config, snapshot: string): Promise<void> {
  if (config.DATABASE_URL === undefined) {
    await syncFile(snapshot)
    await rename(snapshot, recordsFile(config))
    await syncFile(recordsFile(config))
    return
  }
  const records = openRecordStore(config)
  await records.migrate().finally(() => records.close())
  await loadSnapshot(snapshot, config.DATABASE_URL)
}

try {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { time: { type: 'string' }, verify: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } } })
  const [folder, ...more] = positionals
  if (values.help) console.log(HELP)
  else if (folder === undefined || more.length > 0) throw new Error('takes one folder; --help says more')
  else process.exitCode = await restore(resolve(folder), values.time, values.verify)
} catch (error) {
  console.error(`restore: ${(error as Error).message}`)
  process.exitCode = ending.exitCode() ?? 2
}
