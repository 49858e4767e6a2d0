/**
 * The folder of backups:
 *
 *   backups/<time>.json     what one backup is; written last, so that one that was cut off is none
 *   records/<time>.db       its records (copy-records.ts)
 *   objects/…               the objects of all of them, under the keys that they have in the bucket. They never change: what is
 *                           there already is not copied again
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fsObjectStore } from '../../src/objects/fs.ts'
import type { ObjectStore } from '../../src/objects/port.ts'

export interface BackupNote {
  /** names its files; ISO 8601, in UTC */
  time: string
  /** of Penstock */
  version: string
  records: { from: 'sqlite' | 'postgres', sha256: string, bytes: number }
  objects: number
  /** objects that could not be copied, and why: not all that its records point at is there */
  missing: { key: string, reason: string }[]
}

export const objectsIn = (folder: string): ObjectStore => fsObjectStore({ root: join(folder, 'objects') })

export const recordsIn = (folder: string, time: string): string => join(folder, 'records', `${fileName(time)}.db`)

const noteIn = (folder: string, time: string): string => join(folder, 'backups', `${fileName(time)}.json`)

/** Colons are not for file names everywhere. */
const fileName = (time: string): string => time.replaceAll(':', '')

/** Makes what is missing of the folder, for this user only: the records hold who owns what. */
export async function prepareFolder(folder: string): Promise<void> {
  for (const each of ['backups', 'records', 'objects']) await mkdir(join(folder, each), { recursive: true, mode: 0o700 })
}

/** Durable when it returns. */
export async function writeNote(folder: string, note: BackupNote): Promise<void> {
  const path = noteIn(folder, note.time)
  const file = await open(`${path}.part`, 'w', 0o600)
  try {
    await file.writeFile(`${JSON.stringify(note, null, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.part`, path)
  await syncFolder(dirname(path))
}

export async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r+')
  await file.sync().finally(() => file.close())
  await syncFolder(dirname(path))
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  await folder.sync().finally(() => folder.close())
}

/** The newest, or that of a time. @throws Error where there is none */
export async function readNote(folder: string, time?: string): Promise<BackupNote> {
  const names = (await readdir(join(folder, 'backups')).catch(() => [])).filter(name => name.endsWith('.json')).toSorted()
  const name = time === undefined ? names.at(-1) : names.find(each => each === `${fileName(time)}.json`)
  if (name === undefined) throw new Error(time === undefined ? `there is no backup in ${folder}` : `there is no backup of ${time} in ${folder}; there are: ${names.map(each => each.replace(/\.json$/, '')).join(', ')}`)
  return JSON.parse(await readFile(join(folder, 'backups', name), 'utf8')) as BackupNote
}

export async function digestOfFile(path: string): Promise<{ sha256: string, bytes: number }> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return { sha256: hash.digest('hex'), bytes: (await stat(path)).size }
}
