/** The service's own stores, opened beside it or without it, as its configuration says. */
import { existsSync } from 'node:fs'
import pLimit from 'p-limit'
import type { Config } from '../../src/config.ts'
import type { IngestContext, Log } from '../../src/ingest/context.ts'
import { profilesOf } from '../../src/ingest/profiles.ts'
import { runningUploads, type RunningUpload, type RunningUploads } from '../../src/ingest/running.ts'
import { createSlots } from '../../src/ingest/slots.ts'
import { probeStore } from '../../src/objects/probe.ts'
import { storeReadiness } from '../../src/objects/readiness.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { openObjectStore, openRecordStore, recordsFile } from '../../src/stores.ts'

/** Not of this service, or not of this version of it: nothing is made or changed in them. */
export class RecordsUnusable extends Error {}

/**
 * The records of a service that has run before. They are never made here: a mistyped DATA_DIR would get a second service's.
 * @throws RecordsUnusable
 */
export async function openRecords(config: Config): Promise<RecordStore> {
  if (config.DATABASE_URL === undefined && !existsSync(recordsFile(config))) {
    throw new RecordsUnusable(`there are no records at ${recordsFile(config)}: set DATABASE_URL or DATA_DIR as the service has it, and start it once before`)
  }
  const records = openRecordStore(config)
  try {
    await records.check()
    return records
  } catch (error) {
    await records.close()
    throw new RecordsUnusable(`the records cannot be used, or the service has never run on them: ${(error as Error).message}`, { cause: error })
  }
}

export interface OpenIngest {
  context: IngestContext
  /** bytes that the store took so far */
  moved(): number
  close(): Promise<void>
}

/** What the service takes bytes in with, without the rest of it. Its uploads give signs of life as those of the service do. */
export async function openIngest(config: Config, log: Log): Promise<OpenIngest> {
  const records = await openRecords(config)
  const store = openObjectStore(config)
  const { running, moved } = counted(runningUploads(records.uploads, error => log.warn({ action: 'migrate.progress.failed', err: error })))
  const context: IngestContext = {
    config, store, records, running, spareParts: [], trust: undefined,
    readiness: storeReadiness({ store, createBucket: config.OBJECT_STORE !== 's3' || config.S3_CREATE_BUCKET, probe: () => probeStore(store, records.multiparts), onProbed() {} }),
    profiles: profilesOf(config),
    slots: createSlots(config.MAX_CONCURRENT_UPLOADS, config.UPLOAD_RETRY_AFTER_SECONDS),
    manifestReaders: pLimit(1),
    checkModel: async () => { throw new Error('models are not imported as files') }
  }
  return {
    context, moved,
    async close() {
      running.close()
      await records.close()
      await store.close()
    }
  }
}

function counted(running: RunningUploads): { running: RunningUploads, moved(): number } {
  const live = new Set<RunningUpload>()
  let ended = 0
  return {
    running: {
      ...running,
      add(id, upload) {
        live.add(upload)
        const forget = running.add(id, upload)
        return () => {
          if (live.delete(upload)) ended += upload.taken
          forget()
        }
      }
    },
    moved: () => [...live].reduce((sum, { taken }) => sum + taken, ended)
  }
}
