/**
 * Who may do what with a file, decided on its row and the caller.
 *
 *   own it (list, change, share, remove,   the same user of the same account; callers without a user id own what callers
 *   read)                                  without one brought into the same account; administrators own everything
 *   read `public`                          every caller
 *   read `account`                         callers of the same account. Having none is no account that one shares.
 *   read `restricted`                      those it was granted to
 *
 * Guests and public forms, who may be anybody, are told that what they may not read is not there. The token of a public form
 * stands in a page for all to see: it brings files and reads those whose (random) id it knows, but lists and changes none.
 */
import { PenstockError } from '../errors.ts'
import type { Principal } from '../identity/principal.ts'
import type { Holder } from '../records/access-port.ts'
import type { FileRecord } from '../records/jobs-port.ts'

type Owned = Pick<FileRecord, 'owner'>
type Guarded = Pick<FileRecord, 'owner' | 'access'>

/**
 * A service outside any account is nobody in particular here: what it brought would be that of all such services.
 * @throws PenstockError RBAC_FORBIDDEN
 */
export function holderOf(principal: Principal): Holder {
  const { subject, account } = principal
  if (!isSomebody(principal)) throw new PenstockError('RBAC_FORBIDDEN', { message: 'this credential names neither a user nor an account, so no file can be its own' })
  return { subject, account }
}

function isSomebody({ kind, subject, account }: Principal): boolean {
  return kind === 'admin' || subject !== null || account !== null
}

/** Whom a grant of this file to a user is for: a user id is one within an account. */
export function granteeOf({ owner }: Owned, subject: string): { subject: string, account: string | null } {
  return { subject, account: owner.account }
}

function owns(principal: Principal, { owner }: Owned): boolean {
  return principal.kind === 'admin' || (isSomebody(principal) && owner.subject === principal.subject && owner.account === principal.account)
}

/** What an owner may do beside reading. */
export function mayChange(principal: Principal, file: Owned): boolean {
  return principal.kind !== 'public' && owns(principal, file)
}

/** Without grants: those are in the records. */
export function mayReadUngranted(principal: Principal, file: Guarded): boolean {
  return owns(principal, file) || file.access === 'public' || (file.access === 'account' && file.owner.account !== null && file.owner.account === principal.account)
}

/** Is this caller to learn nothing of what it may not read? */
export function isStranger({ kind }: Principal): boolean {
  return kind === 'guest' || kind === 'public'
}
