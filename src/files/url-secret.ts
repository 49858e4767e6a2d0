/** The key of addresses that are a credential of their own: SIGNED_URL_SECRET, or one that is drawn once and shared by all nodes. */
import { randomBytes } from 'node:crypto'
import type { Config } from '../config.ts'
import type { SettingRecords } from '../records/access-port.ts'

export type UrlSecret = () => Promise<string>

export function urlSecret(settings: SettingRecords, { SIGNED_URL_SECRET: given }: Pick<Config, 'SIGNED_URL_SECRET'>): UrlSecret {
  let drawn: Promise<string> | undefined
  return function secret() {
    if (given !== undefined) return Promise.resolve(given)
    drawn ??= settings.secret('signed-url', () => randomBytes(32).toString('base64url'))
    drawn.catch(() => { drawn = undefined })
    return drawn
  }
}
