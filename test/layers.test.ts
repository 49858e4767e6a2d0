import t from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'

/** The table of the design: who may import whom. `errors` and `limits` are for everyone. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  errors: [],
  limits: [],
  config: [],
  logging: [],
  objects: [],
  records: [],
  redis: [],
  identity: ['records', 'redis', 'config'],
  ingest: ['inference', 'objects', 'records', 'identity', 'config'],
  files: ['ingest', 'objects', 'records', 'identity', 'config'],
  inference: ['objects', 'config'],
  models: ['inference', 'ingest', 'objects', 'records', 'identity', 'config'],
  jobs: ['ingest', 'files', 'models', 'inference', 'objects', 'records', 'identity', 'config'],
  'gpu-node': ['ingest', 'jobs', 'models', 'inference', 'objects', 'records', 'config'],
  http: ['gpu-node', 'redis', 'ingest', 'files', 'jobs', 'models', 'inference', 'identity', 'objects', 'records', 'config'],
  metrics: ['http', 'ingest', 'jobs', 'objects', 'records'],
  stores: ['objects', 'records', 'config'],
  pools: ['inference', 'objects', 'stores', 'config'],
  app: ['gpu-node', 'redis', 'metrics', 'http', 'ingest', 'files', 'jobs', 'models', 'inference', 'identity', 'objects', 'records', 'stores', 'pools', 'config'],
  worker: ['inference', 'stores', 'objects', 'config'],
  main: ['app', 'config', 'logging']
}
const FOR_EVERYONE = new Set(['errors', 'limits'])
/** Adapters are known to the composition root (stores.ts) alone. */
const ADAPTERS = ['objects/fs.ts', 'objects/memory.ts', 'objects/s3.ts', 'records/sqlite.ts', 'records/postgres.ts']

const src = join(import.meta.dirname, '..', 'src')
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'))

function folderOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : file.replace(/\.ts$/, '')
}

function importsOf(file: string): { target: string, typeOnly: boolean }[] {
  const text = readFileSync(join(src, file), 'utf8')
  const found = [...text.matchAll(/^(?:import|export)\s+(type\s+)?[^'"]*?from\s+'(\.[^']+)'|^import\s+'(\.[^']+)'|import\('(\.[^']+)'\)/gm)]
  return found.map(match => ({
    target: normalize(relative(src, join(src, dirname(file), (match[2] ?? match[3] ?? match[4])!))),
    typeOnly: match[1] !== undefined
  }))
}

t.test('every folder imports only what the design lets it', async t => {
  t.ok(files.length > 20, 'the sources are found')
  for (const file of files) {
    const from = folderOf(file)
    t.ok(MAY_IMPORT[from], `${file}: ${from} is in the table`)
    for (const { target } of importsOf(file)) {
      const to = folderOf(target)
      t.ok(to === from || FOR_EVERYONE.has(to) || MAY_IMPORT[from]?.includes(to), `${file} imports ${target}`)
    }
  }
})

t.test('adapters are chosen in one place', async t => {
  for (const file of files) {
    for (const { target } of importsOf(file)) {
      if (ADAPTERS.includes(target)) t.ok(file === 'stores.ts' || folderOf(file) === folderOf(target), `${file} imports the adapter ${target}`)
    }
  }
})

t.test('the environment is read in main.ts alone', async t => {
  for (const file of files) {
    if (file === 'main.ts') continue
    const text = readFileSync(join(src, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
    // to set a variable for a library is another thing
    t.notMatch(text, /\bprocess\.env\b(?!\.\w+ = )/, file)
    // a worker is told by message what to do, and when to end
    t.notMatch(text, file === 'worker.ts' ? /\bprocess\.argv\b/ : /\bprocess\.(exit|argv|on)\b/, file)
  }
})
