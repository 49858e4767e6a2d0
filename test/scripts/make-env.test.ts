import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import t from 'tap'
import { readConfig } from '../../src/config.ts'

const SCRIPT = join(import.meta.dirname, '../../scripts/make-env.ts')

function makeEnv(file: string): Promise<{ code: number, stderr: string }> {
  return new Promise(resolve => {
    execFile(process.execPath, [SCRIPT, file], (error, _stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stderr }))
  })
}

t.test('npm run env writes fresh secrets that only the owner can read, and never over others', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'penstock-env-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [first, second] = [join(folder, 'first'), join(folder, 'second')]
  t.equal((await makeEnv(first)).code, 0)
  t.equal((await makeEnv(second)).code, 0)
  t.equal(statSync(first).mode & 0o777, 0o600)
  const [one, two] = [first, second].map(file => parseEnv(readFileSync(file, 'utf8')))
  t.same(Object.keys(one ?? {}).toSorted(), ['ADMIN_TOKEN', 'AI_INTERNAL_TOKEN', 'GRAFANA_PASSWORD', 'METRICS_TOKEN', 'MINIO_ROOT_PASSWORD', 'MINIO_ROOT_USER', 'POSTGRES_PASSWORD', 'SIGNED_URL_SECRET', 'WEBHOOK_SECRET'])
  for (const [name, value] of Object.entries(one ?? {})) t.not(value, two?.[name], `${name} is drawn each time`)
  t.match(one?.POSTGRES_PASSWORD, /^[0-9a-f]{48}$/, 'it stands in an address')
  t.doesNotThrow(() => readConfig({ ...one, NODE_ENV: 'production' }), 'production takes the token')

  const before = readFileSync(first, 'utf8')
  const refused = await makeEnv(first)
  t.equal(refused.code, 1)
  t.match(refused.stderr, 'is there already')
  t.equal(readFileSync(first, 'utf8'), before)
})
