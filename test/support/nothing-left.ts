/** What must be so after any failure: nothing in staging, nothing unfinished, no slot, no descriptor taken. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openObjectStore, openRecordStore } from '../../src/stores.ts'
import { PROBE_PREFIX } from '../../src/objects/keys.ts'
import { eventually } from './raw-client.ts'
import type { StartedApp } from './start-app.ts'

/** Every key of the bucket, as the store itself shows it. */
export async function keysOf({ config }: Pick<StartedApp, 'config'>): Promise<string[]> {
  const store = openObjectStore(config)
  try {
    const keys: string[] = []
    for await (const { key } of store.list('')) keys.push(key)
    return keys.filter(key => !key.startsWith(PROBE_PREFIX))
  } finally {
    await store.close()
  }
}

/** Only these keys are in the bucket, no part or temporary file, and no upload is receiving. */
export async function nothingLeft(app: Pick<StartedApp, 'config'>, expected: string[] = []): Promise<void> {
  await eventually(async () => {
    assert.deepEqual(await keysOf(app), expected.toSorted())
    assert.deepEqual(await unfinishedOf(app), [])
  })
}

async function unfinishedOf({ config }: Pick<StartedApp, 'config'>): Promise<string[]> {
  const records = openRecordStore(config)
  try {
    const future = Date.now() + 60_000
    const receiving = (await records.uploads.listStale(future, 1000)).filter(upload => upload.status === 'receiving').map(upload => `row ${upload.id}`)
    const intents = (await records.multiparts.listStale(future, 1000)).map(intent => `intent ${intent.key}`)
    return [...receiving, ...intents, ...await filesIn(join(config.DATA_DIR, 'objects', '.tmp')), ...await filesIn(join(config.DATA_DIR, 'objects', '.multipart'))]
  } finally {
    await records.close()
  }
}

async function filesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch(() => [])
}
