/** Calls every method of shared files whose queries differ. */
import { randomUUID } from 'node:crypto'
import type { RecordStore } from '../../src/records/port.ts'

export async function useFiles({ files, objects, settings }: RecordStore): Promise<void> {
  const object = { sha256: 'a1', key: 'k', size: 1, contentType: 'text/plain' }
  const claim = await objects.claim(object) ?? null
  for (const holder of [{ account: 'a', subject: 's' }, { account: null, subject: 's' }, { account: 'a', subject: null }, { account: null, subject: null }]) {
    const id = randomUUID()
    await files.add({ ...object, id, filename: 'f', access: 'account', owner: { ...holder, clientId: null }, claim, stagedUploadId: 'u' })
    await files.list({ holder, limit: 2 })
    await files.list({ holder, limit: 2, after: { createdAt: Date.now(), id } })
    await files.search({ holder, limit: 2, text: 'x' })
    await files.update(id, { filename: 'g' })
    await files.update(id, { access: 'public' })
    await files.update(id, { filename: 'g', access: 'public' })
    await files.update(id, {})
    const other = { subject: 'o', account: holder.account }
    await files.grant(id, other)
    await files.isGranted(id, other)
    await files.revoke(id, other)
    await files.grant(id, other)
    await files.remove(id)
  }
  await settings.secret('name', () => 'value')
}
