import t from 'tap'
import { ingestContract } from '../contract/ingest.ts'

ingestContract(t, 'files + SQLite', async () => ({}))
