/** The benchmarks of files: `npm run bench -- files` runs them all, and each can be run by its name. */
import { benchFileDownload } from './file-download.ts'
import { benchFileJwt } from './file-jwt.ts'
import { benchFileReaders } from './file-readers.ts'
import { benchFileRows } from './file-rows.ts'
import { benchFileUpload } from './file-upload.ts'
import type { Benchmark } from './main.ts'

export const FILE_BENCHMARKS: Record<string, Benchmark> = {
  'file-download': { run: benchFileDownload, defaults: { rounds: 5, parallel: 1, sizeMib: 1024, store: 'minio' } },
  'file-readers': { run: benchFileReaders, defaults: { rounds: 3, parallel: 64, sizeMib: 32, store: 'minio' } },
  'file-upload': { run: benchFileUpload, defaults: { rounds: 5, parallel: 1, sizeMib: 100, store: 'minio' } },
  'file-jwt': { run: benchFileJwt, defaults: { rounds: 5, parallel: 16, sizeMib: 0, store: 'sink', count: 10_000 } },
  'file-rows': { run: benchFileRows, defaults: { rounds: 5, parallel: 1, sizeMib: 0, store: 'sink', count: 1_000_000 } }
}
