/**
 * Imports what a source gives out as files of an account.
 *
 * What was done is known from the records alone. The id of a file is made of whom it is for and of what it is in its source
 * (an HMAC, with a secret that is kept in the records, so that ids stay as hard to guess as random ones). So an import that
 * was cut off, by Ctrl-C, `kill -9` or a dead machine, is run again as it was: what has its row is passed over, from any
 * machine, and what has none is imported, at whatever point it was lost. A journal beside the records could only say the
 * same a little earlier or later than they do, and be lost or belong to others. The row is written in one transaction with
 * the claim of the bytes, and its id is unique, so that two imports at once double nothing either.
 *
 * A file that was imported and deleted since comes back with the next run. A dry run draws the secret where there is none
 * yet, and changes nothing else.
 */
import { createHmac, randomBytes } from 'node:crypto'
import type { IngestContext, Log } from '../../src/ingest/context.ts'
import type { Holder } from '../../src/records/access-port.ts'
import type { FileAccess, FileRecord } from '../../src/records/jobs-port.ts'
import type { HolderOf } from './holders.ts'
import { isOwn, reasonOf } from './reasons.ts'
import { isRefused, SourceFault, type Entry, type Item } from './source.ts'
import { storeFile, verifyStored } from './store-file.ts'
import type { Outcome } from './work.ts'

export interface ImportOptions {
  holderOf: HolderOf
  access: FileAccess
  maxBytes: number
  verify: boolean
  dryRun: boolean
  /** names of files keep the folders that they were in */
  keepFolders: boolean
  log: Log
}

const SECRET = 'import-ids'

/** Never rejects: what went wrong with an entry is its outcome. @throws RecordStoreFailed, before it begins */
export async function importer(context: IngestContext, options: ImportOptions): Promise<(entry: Entry, signal: AbortSignal) => Promise<Outcome>> {
  const secret = await context.records.settings.secret(SECRET, () => randomBytes(32).toString('base64url'))
  return async (entry, signal) => {
    if (isRefused(entry)) return entry
    const whose = options.holderOf(entry.path)
    if (whose === undefined) return { name: entry.name, outcome: 'skipped', reason: 'no --map says whose it is' }
    const id = fileIdOf(secret, whose.holder, entry.identity)
    const facts = { file_id: id, account: whose.holder.account, subject: whose.holder.subject }
    try {
      const known = await context.records.files.get(id)
      if (known !== undefined) return { ...await passOver(context, entry, known, options), facts: { ...facts, sha256: known.sha256 } }
    } catch (error) {
      return { name: entry.name, outcome: 'failed', reason: reasonOf(error), facts, own: isOwn(error) }
    }
    try {
      if (entry.size !== undefined && entry.size > options.maxBytes) throw new SourceFault(`has more than ${options.maxBytes} bytes`)
      if (options.dryRun) return { name: entry.name, outcome: 'planned', ...(entry.size !== undefined && { size: entry.size }), facts }
      const stored = await bringIn(context, entry, { id, owner: { ...whose.holder, clientId: null }, path: whose.rest }, options, signal)
      return { name: entry.name, outcome: 'done', size: stored.size, facts: { ...facts, sha256: stored.sha256, filename: stored.filename, content_type: stored.contentType } }
    } catch (error) {
      return await whatBecame(context, entry, id, facts, signal.aborted ? new SourceFault('was cut off') : error)
    }
  }
}

/** A UUID of the form that random ones have: what asks for an id of a file asks for that. */
export function fileIdOf(secret: string, { account, subject }: Holder, identity: string): string {
  const bytes = createHmac('sha256', secret).update(JSON.stringify([account, subject, identity])).digest().subarray(0, 16)
  bytes[6] = bytes[6]! & 0x0f | 0x40
  bytes[8] = bytes[8]! & 0x3f | 0x80
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

async function passOver(context: IngestContext, { name, size }: Item, known: FileRecord, { verify, dryRun }: ImportOptions): Promise<Outcome> {
  if (size !== undefined && size !== known.size) {
    return { name, outcome: 'failed', reason: 'was imported before, and has another length now: delete that file, or give --label, to import it anew' }
  }
  if (verify && !dryRun) await verifyStored(context, known.key, known)
  return { name, outcome: 'skipped', reason: verify && !dryRun ? 'is there already, verified' : 'is there already' }
}

async function bringIn(context: IngestContext, item: Item, { id, owner, path }: { id: string, owner: FileRecord['owner'], path: string }, options: ImportOptions, signal: AbortSignal): Promise<FileRecord> {
  const opened = await item.open(signal)
  if (opened.size !== undefined && opened.size > options.maxBytes) {
    opened.body.destroy()
    throw new SourceFault(`has more than ${options.maxBytes} bytes`)
  }
  const name = item.filename ?? opened.filename ?? (options.keepFolders ? path : path.slice(path.lastIndexOf('/') + 1))
  return await storeFile(context, opened, { id, name, owner, access: options.access }, { ...options, signal })
}

/** Another import may have been there first, or the answer of the records was lost: then it is there all the same. */
async function whatBecame(context: IngestContext, { name }: Item, id: string, facts: Record<string, string | null>, error: unknown): Promise<Outcome> {
  const there = await context.records.files.get(id).catch(() => undefined)
  if (there !== undefined && isOwn(error)) return { name, outcome: 'skipped', reason: 'is there already', facts: { ...facts, sha256: there.sha256 } }
  return { name, outcome: 'failed', reason: reasonOf(error), facts, own: isOwn(error) }
}
