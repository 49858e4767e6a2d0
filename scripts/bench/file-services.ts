/** What the benchmarks of files share: files that are put into a service, and readers that insist on all of their bytes. */
import { order } from './processes.ts'
import type { Running } from './processes.ts'
import type { ReadOrder, ReadReport } from './read.ts'
import { ADMIN, send } from './upload.ts'

export interface StoredFile { readonly file_id: string, readonly sha256: string, readonly size: number }

/** One file of random bytes. */
export async function putFile(load: Running, service: Running, sizeBytes: number, headers: Record<string, string> = ADMIN): Promise<StoredFile> {
  const { lastBody } = await send(load, { url: `${service.url}/files/upload`, headers, count: 1, parallel: 1, sizeBytes, part: 'file' }, 201)
  return JSON.parse(lastBody) as StoredFile
}

/** Reads and insists that every answer was 200 and whole. */
export async function read(reader: Running, request: ReadOrder, sizeBytes: number): Promise<ReadReport> {
  const report = await order<ReadReport>(reader, request)
  const good = report.statuses['200'] ?? 0
  if (good !== request.count) throw new Error(`only ${good} of ${request.count} reads were right: ${JSON.stringify(report.statuses)}`)
  if (report.bytes !== request.count * sizeBytes) throw new Error(`${report.bytes} bytes were read instead of ${request.count * sizeBytes}`)
  return report
}
