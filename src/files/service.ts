/**
 * Files that are shared: what a caller may do with them is decided here, on the row, before anything else happens.
 *
 * Strangers (guests, public forms) get for a file that they may not read the answer, and cause the work, of a file that is not
 * there: the grant is looked up and the callback asked for both.
 */
import { PenstockError } from '../errors.ts'
import type { Principal } from '../identity/principal.ts'
import type { FilePage } from '../records/access-port.ts'
import type { FileAccess, FileRecord } from '../records/jobs-port.ts'
import type { PageCursor } from '../records/port.ts'
import { granteeOf, holderOf, isStranger, mayChange, mayReadUngranted } from './access.ts'
import type { FilesContext } from './context.ts'
import { beginFile, type FileDraft } from './draft.ts'
import { fileNameOf } from './filename.ts'
import { signedPath, verifySigned, type SignatureQuery } from './signed-url.ts'
import { urlSecret } from './url-secret.ts'

/** Who asks, and with what. */
export interface Reader {
  principal: Principal
  /** The headers that it is known by, for the permission callback. */
  credential: Readonly<Record<string, string>>
  /** Aborts when nobody waits for the answer any more. */
  signal: AbortSignal
}

export interface FileListQuery { limit: number, after?: PageCursor, type?: string, text?: string }

/** `id` is in the form of a UUID, lower case. All reject with RecordStoreFailed where the records do. */
export interface FileService {
  /** @throws SERVICE_BUSY, RBAC_FORBIDDEN */
  begin(principal: Principal): FileDraft
  /** @throws FILE_NOT_FOUND, RBAC_FORBIDDEN, PERMISSION_CALLBACK_TIMEOUT, PERMISSION_CALLBACK_FAILED */
  read(id: string, reader: Reader): Promise<FileRecord>
  /** Of whoever has the address. @throws UNAUTHORIZED, TOKEN_EXPIRED, FILE_NOT_FOUND */
  readSigned(id: string, query: SignatureQuery): Promise<FileRecord>
  /** By the rules here alone; false for what is not there. */
  mayRead(id: string, principal: Principal): Promise<boolean>
  /** The caller's own, newest first. @throws RBAC_FORBIDDEN */
  list(principal: Principal, query: FileListQuery): Promise<FilePage>
  /** @throws FILE_NOT_FOUND, RBAC_FORBIDDEN */
  change(principal: Principal, id: string, change: { filename?: string, access?: FileAccess }): Promise<FileRecord>
  /** Nothing where there is none, as far as this caller knows. @throws RBAC_FORBIDDEN */
  remove(principal: Principal, id: string): Promise<void>
  /** @throws FILE_NOT_FOUND, RBAC_FORBIDDEN */
  grant(principal: Principal, id: string, subject: string): Promise<void>
  /** @throws FILE_NOT_FOUND, RBAC_FORBIDDEN */
  revoke(principal: Principal, id: string, subject: string): Promise<void>
  /** `path` with its query; `expiresAt` epoch milliseconds. @throws FILE_NOT_FOUND, RBAC_FORBIDDEN */
  sign(principal: Principal, id: string, wanted: { expiresSeconds: number, inline: boolean }): Promise<{ path: string, expiresAt: number }>
}

export function createFileService(context: FilesContext): FileService {
  const { ingest: { records, config }, log, callback, now = Date.now } = context
  const { files } = records
  const secret = urlSecret(records.settings, config)

  async function isGranted(id: string, file: FileRecord | undefined, principal: Principal): Promise<boolean> {
    const { subject, account } = principal
    if (subject === null || (file?.access !== 'restricted' && !isStranger(principal))) return false
    return await files.isGranted(id, { subject, account }) && file?.access === 'restricted'
  }

  async function read(id: string, { principal, credential, signal }: Reader): Promise<FileRecord> {
    const file = await files.get(id)
    if (file === undefined && !isStranger(principal)) throw new PenstockError('FILE_NOT_FOUND')
    if (file !== undefined && mayReadUngranted(principal, file)) return file
    const allowed = await isGranted(id, file, principal) || (callback !== undefined && await callback.allows(id, credential, signal))
    if (file !== undefined && allowed) return file
    throw refusal(principal)
  }

  async function readOwn(principal: Principal, id: string): Promise<FileRecord> {
    const file = await files.get(id)
    if (file === undefined) throw new PenstockError('FILE_NOT_FOUND')
    if (!mayChange(principal, file)) throw refusal(principal)
    return file
  }

  return {
    begin(principal) {
      holderOf(principal)
      return beginFile(context, principal)
    },
    read,
    async readSigned(id, query) {
      verifySigned(id, query, await secret(), now())
      const file = await files.get(id)
      if (file === undefined) throw new PenstockError('FILE_NOT_FOUND')
      return file
    },
    async mayRead(id, principal) {
      const file = await files.get(id)
      if (file !== undefined && mayReadUngranted(principal, file)) return true
      return await isGranted(id, file, principal)
    },
    async list(principal, query) {
      if (principal.kind === 'public') throw new PenstockError('RBAC_FORBIDDEN', { message: 'public forms list no files' })
      return await files.search({ holder: holderOf(principal), ...query })
    },
    async change(principal, id, { filename, access }) {
      await readOwn(principal, id)
      const changed = await files.update(id, { ...filename !== undefined && { filename: fileNameOf(filename) }, ...access !== undefined && { access } })
      if (changed === undefined) throw new PenstockError('FILE_NOT_FOUND')
      return changed
    },
    async remove(principal, id) {
      const file = await files.get(id)
      if (file === undefined) return
      if (mayChange(principal, file)) {
        await files.remove(id)
        log.info({ action: 'files.file.removed', file_id: id })
      } else if (!isStranger(principal)) {
        throw refusal(principal)
      }
    },
    async grant(principal, id, subject) {
      const file = await readOwn(principal, id)
      if (!await files.grant(id, granteeOf(file, subject))) throw new PenstockError('FILE_NOT_FOUND')
    },
    async revoke(principal, id, subject) {
      await files.revoke(id, granteeOf(await readOwn(principal, id), subject))
    },
    async sign(principal, id, { expiresSeconds, inline }) {
      await readOwn(principal, id)
      const expires = Math.floor(now() / 1000) + expiresSeconds
      return { path: signedPath({ id, expires, inline }, await secret()), expiresAt: expires * 1000 }
    }
  }
}

function refusal(principal: Principal): PenstockError {
  return new PenstockError(isStranger(principal) ? 'FILE_NOT_FOUND' : 'RBAC_FORBIDDEN')
}
