/** Runs the migration command as its users do, over records of a service that has run before. */
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'
import { readConfig, type Config } from '../../src/config.ts'
import { collect } from '../../src/ingest/collect.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import type { Holder } from '../../src/records/access-port.ts'
import type { FileRecord } from '../../src/records/jobs-port.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { openObjectStore, openRecordStore } from '../../src/stores.ts'
import { nothingLeft } from './nothing-left.ts'
import { sweepNow } from './sweep-now.ts'

const SCRIPT = join(import.meta.dirname, '../../scripts/migrate-files.ts')

export interface Ended { code: number | null, stdout: string, stderr: string }
export interface Running { child: ChildProcess, ended: Promise<Ended>, output(): string }

export interface Migration {
  env: Record<string, string>
  config: Config
  store: ObjectStore
  records: RecordStore
  start(...args: string[]): Running
  run(...args: string[]): Promise<Ended>
  /** With more in its environment. */
  startWith(env: Record<string, string>, args: readonly string[]): Running
  /** Of one holder, by name. */
  files(holder: Holder): Promise<FileRecord[]>
  bytesOf(file: FileRecord): Promise<Buffer>
  /** After a sweep and a collection of everything that is old: nothing unfinished is left, and these files have all of their bytes. */
  tidy(files: readonly FileRecord[]): Promise<void>
}

export async function tempFolder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'penstock-migrate-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

export async function folderOf(t: Test, files: Record<string, string | Uint8Array>): Promise<string> {
  const folder = await tempFolder(t)
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), bytes)
  }
  return folder
}

/** `000.bin` and on, of random bytes. */
export function manyFiles(count: number, bytes: number): Record<string, Uint8Array> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`${String(index).padStart(3, '0')}.bin`, randomBytes(bytes)]))
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Over files, or what `env` says; its records are made. */
export async function migration(t: Test, env: Record<string, string> = {}): Promise<Migration> {
  const settings = { DATA_DIR: await tempFolder(t), ...env }
  const config = readConfig(settings)
  const [store, records] = [openObjectStore(config), openRecordStore(config)]
  t.teardown(async () => {
    await store.close()
    await records.close()
  })
  await records.migrate()
  await store.createBucket()
  const start = (...args: string[]): Running => startMigration(t, settings, args)
  return {
    env: settings, config, store, records, start,
    run: (...args) => start(...args).ended,
    startWith: (more, args) => startMigration(t, { ...settings, ...more }, args),
    files: async holder => (await records.files.list({ holder, limit: 10_000 })).toSorted((a, b) => a.filename < b.filename ? -1 : 1),
    bytesOf: async ({ key }) => Buffer.concat(await Array.fromAsync((await store.open(key)).body as AsyncIterable<Buffer>)),
    async tidy(files) {
      await sweepNow({ config })
      // where a copy is a hard link, taking one name away has made the other as new as that moment
      if (config.OBJECT_STORE === 'fs') await sweepNow({ config })
      for await (const _ of collect({ store, records, before: new Date(Date.now() + 1000), remove: true }));
      await nothingLeft({ config }, [...new Set(files.map(({ key }) => key))])
    }
  }
}

export function startMigration(t: Test, env: Record<string, string>, args: readonly string[]): Running {
  const child = spawn(process.execPath, [SCRIPT, ...args], { env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const out = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => { out.stdout += chunk })
  child.stderr.on('data', chunk => { out.stderr += chunk })
  const ended = once(child, 'close').then(([code]) => ({ ...out, code: code as number | null }))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, ended, output: () => out.stdout }
}

export interface ReportEntry { name: string, outcome: string, reason?: string, size?: number, file_id?: string, sha256?: string }
export interface ReportFile { command: string, entries: ReportEntry[], totals: Record<string, number>, ended: string | null }

export async function readReport(file: string): Promise<ReportFile> {
  return JSON.parse(await readFile(file, 'utf8')) as ReportFile
}
