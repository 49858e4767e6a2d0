/** Where a run writes, as its worker says; nothing but keys of staging, whatever else a worker that has lost its mind may name. */
import { STAGING_KEYS_PER_RUN_MAX } from '../limits.ts'
import { parseStagingKey } from '../objects/keys.ts'

export interface StagingKeys {
  add(key: string): void
  all(): { key: string }[]
}

export function stagingKeys(): StagingKeys {
  const keys = new Set<string>()
  return {
    add(key) { if (parseStagingKey(key) !== undefined && keys.size < STAGING_KEYS_PER_RUN_MAX) keys.add(key) },
    all: () => [...keys].map(key => ({ key }))
  }
}
