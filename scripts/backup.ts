/**
 * npm run backup -- <folder> [--verify]
 *
 * A backup of the records and of every object that they point at. HELP says the rest. The records come first: objects never
 * change, so what they point at can be copied later. What `npm run gc -- --delete` took in between is named as missing.
 */
import { existsSync } from 'node:fs'
import { readFile, rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { readConfig, type Config } from '../src/config.ts'
import { openObjectStore, recordsFile } from '../src/stores.ts'
import { copyReferenced } from './backup/copy-objects.ts'
import { takeSnapshot, type Place } from './backup/copy-records.ts'
import { digestOfFile, objectsIn, prepareFolder, recordsIn, syncFile, writeNote } from './backup/folder.ts'
import { endOnSignals } from './migrate/end-on-signals.ts'

const HELP = `npm run backup -- <folder> [--verify]

Adds a backup to the folder: the records as they are now, in one file of SQLite, and each object that they point at and that
the folder does not have yet. It reads the configuration of the service, which may go on, as may other backups elsewhere.
Uploads that are not finalized are not in it.
Run no gc --delete meanwhile. The folder holds everything that the service holds: keep it as safe.

  --verify  reads again what the folder has already
  --help    this text

Exit code 0: all of it is there. 1: some objects are not, and each is named. 2: there is no backup.`

const ending = endOnSignals(process)

function placeOf(config: Config): Place {
  return config.DATABASE_URL === undefined ? { file: recordsFile(config) } : { url: config.DATABASE_URL }
}

async function backUp(folder: string, verify: boolean): Promise<number> {
  const config = readConfig(process.env)
  const place = placeOf(config)
  if ('file' in place && !existsSync(place.file)) throw new Error(`there are no records at ${place.file}: set DATABASE_URL or DATA_DIR as the service has it`)
  const time = new Date().toISOString()
  await prepareFolder(folder)
  const snapshot = recordsIn(folder, time)
  const [source, target] = [openObjectStore(config), objectsIn(folder)]
  let noted = false
  try {
    await source.check()
    await takeSnapshot(place, `${snapshot}.part`)
    const { done, skipped, bytes, failures, ended } = await copyReferenced(`${snapshot}.part`, source, target, { verify, ending })
    if (ended !== undefined) throw new Error(`${ended}: what was copied stays, and the next backup goes on from there`)
    const { version } = JSON.parse(await readFile(join(import.meta.dirname, '../package.json'), 'utf8')) as { version: string }
    await rename(`${snapshot}.part`, snapshot)
    await syncFile(snapshot)
    await writeNote(folder, { time, version, records: { from: 'file' in place ? 'sqlite' : 'postgres', ...await digestOfFile(snapshot) }, objects: done + skipped, missing: failures })
    noted = true
    console.log(`backup of ${time}: ${done} objects copied (${bytes} bytes), ${skipped} were there, ${failures.length} missing`)
    return failures.length === 0 ? 0 : 1
  } finally {
    if (!noted) for (const end of ['.part', '.part-wal', '.part-shm', '']) await rm(`${snapshot}${end}`, { force: true })
    await Promise.all([source.close(), target.close()])
  }
}

try {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { verify: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } } })
  const [folder, ...more] = positionals
  if (values.help) console.log(HELP)
  else if (folder === undefined || more.length > 0) throw new Error('takes one folder; --help says more')
  else process.exitCode = await backUp(resolve(folder), values.verify)
} catch (error) {
  console.error(`backup: ${(error as Error).message}`)
  process.exitCode = ending.exitCode() ?? 2
}
