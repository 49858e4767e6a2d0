/** Settings that all nodes share, kept in the records. */
import type { SettingRecords } from './access-port.ts'
import type { Records } from './schema.ts'

export function settingRecords({ db, now }: Records): SettingRecords {
  const read = async (name: string) => (await db.selectFrom('settings').select('value').where('name', '=', name).executeTakeFirst())?.value
  return {
    async secret(name, make) {
      const known = await read(name)
      if (known !== undefined) return known
      // of several that find none, one writes
      await db.insertInto('settings').values({ name, value: make(), created_at: now() }).onConflict(conflict => conflict.column('name').doNothing()).execute()
      return (await read(name))!
    }
  }
}
