/** Whose upload is it? Decided on the row, never on knowing a key. */
import type { Principal } from '../identity/principal.ts'
import type { Owner, UploadRecord } from '../records/port.ts'

export function ownerOf(principal: Principal): Owner {
  return { subject: principal.subject, account: principal.account, clientId: principal.clientId }
}

/** Administrators reach every upload, others their own. */
export function mayReach(principal: Principal, upload: Pick<UploadRecord, 'owner'>): boolean {
  const { owner } = upload
  return principal.kind === 'admin'
    || (owner.subject === principal.subject && owner.account === principal.account && owner.clientId === principal.clientId)
}
