/**
 * `npm run env`: writes `.env` with fresh secrets for `docker compose up`. It never overwrites one: the stores of a
 * running stack were made with the old passwords.
 */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { resolve } from 'node:path'

/** Hexadecimal, because one of them becomes part of an address. */
const secret = () => randomBytes(24).toString('hex')

const file = resolve(process.argv[2] ?? '.env')
const text = `# Secrets of the stack in compose.yaml. Every other setting: see .env.example.
ADMIN_TOKEN=${secret()}
MINIO_ROOT_USER=penstock-${randomBytes(4).toString('hex')}
MINIO_ROOT_PASSWORD=${secret()}
POSTGRES_PASSWORD=${secret()}
METRICS_TOKEN=${secret()}
AI_INTERNAL_TOKEN=${secret()}
SIGNED_URL_SECRET=${secret()}
WEBHOOK_SECRET=${secret()}
GRAFANA_PASSWORD=${secret()}
`

try {
  writeFileSync(file, text, { flag: 'wx', mode: 0o600 })
  console.log(`wrote ${file}; next: docker compose up --build --wait`)
} catch (error) {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  console.error(`${file} is there already and is left as it is`)
  process.exitCode = 1
}
