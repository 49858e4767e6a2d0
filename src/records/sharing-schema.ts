/** The tables of shared files as Kysely sees them. sharing-tables.ts makes them. */
import type { Holder } from './access-port.ts'

export interface FileGrantsTable {
  file_id: string
  /** holderKey() of who may read it */
  holder: string
  created_at: number
}

export interface SettingsTable { name: string, value: string, created_at: number }

/** One text for a holder, with its nulls. */
export function holderKey({ account, subject }: Holder): string {
  return JSON.stringify([account, subject])
}
