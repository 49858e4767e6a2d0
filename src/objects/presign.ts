/**
 * Ability of stores that clients can reach by themselves: addresses that carry a permission of their own, for one object and
 * one method, until they are over. Making one asks nothing of the store, and does not say that the object is there.
 */
import type { ObjectKey, ObjectStore } from './port.ts'

export interface PresignGetOptions {
  /** How long it works, in seconds from now; at most PRESIGN_MAX_SECONDS. */
  expiresSeconds: number
  /** Content-Type and Content-Disposition of the answer, whatever is stored with the object. */
  contentType?: string
  disposition?: string
}

export interface PresignPutOptions {
  expiresSeconds: number
  /** The client must send just this. */
  contentType: string
  /** Bytes of the body, where they are known: the store then takes no other length. */
  size?: number
}

export interface PresignedPut {
  url: string
  /** What the client must send with it, beyond what HTTP itself asks for. Names in lower case. */
  headers: Record<string, string>
}

export interface Presigns {
  /** GET of the object. A range and conditions of the client are the store's to answer. @throws ObjectKeyInvalid */
  presignGet(key: ObjectKey, options: PresignGetOptions): Promise<string>
  /** PUT of an object: it can be used again until it is over, and then replaces what is there. @throws ObjectKeyInvalid */
  presignPut(key: ObjectKey, options: PresignPutOptions): Promise<PresignedPut>
}

/** Is there an address of the store that clients know (PUBLIC_S3_ENDPOINT)? */
export function presigns(store: ObjectStore): store is ObjectStore & Presigns {
  return 'presignPut' in store
}
