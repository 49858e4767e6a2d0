/**
 * A real MinIO for development and tests: found, or installed, then run on loopback.
 *
 *   find     on PATH → in Go's folder of programs → in .cache/bin of this checkout → in ~/.cache/penstock
 *   install  `go install` of a pinned version into .cache/bin (some minutes), else the container image, where Docker is
 *   run      below a shell that ends it when this process ends, however it ends (tethered.ts)
 */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { access, constants, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { s3ObjectStore } from '../../src/objects/s3.ts'
import { freePort, startTethered, type TetheredServer } from './tethered.ts'

const MODULE = 'github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c'
const IMAGE = 'quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z'
const CACHE = resolve(import.meta.dirname, '../../.cache/bin')
const PROGRESS_INTERVAL_MS = 15_000

const run = promisify(execFile)

/** Ways to run MinIO: the program, or Docker. */
export type MinioProgram = { kind: 'binary', path: string } | { kind: 'container' }

export interface Minio {
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** is there */
  readonly bucket: string
  /** Of the running server (of the Docker client, where it runs in a container). */
  readonly pid: number
  /** Sends a signal; returns when the server has ended. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** Starts it again, on the same port and data. */
  restart(): Promise<void>
  /** Ends it and removes its data, unless `dataDir` was given. Idempotent. */
  stop(): Promise<void>
}

export interface MinioOptions {
  /** default: a free one */
  port?: number
  /** default: a temporary folder */
  dataDir?: string
  bucket?: string
  program?: MinioProgram
}

/** Where MinIO is on this machine, without installing anything. */
export async function findMinio(): Promise<string | undefined> {
  const goPath = await run('go', ['env', 'GOPATH']).then(({ stdout }) => stdout.trim(), () => join(homedir(), 'go'))
  const folders = [...(process.env.PATH ?? '').split(delimiter), join(goPath, 'bin'), CACHE, join(homedir(), '.cache', 'penstock')]
  for (const path of folders.filter(Boolean).map(folder => join(folder, 'minio'))) {
    if (await access(path, constants.X_OK).then(() => true, () => false)) return path
  }
  return undefined
}

/** Finds MinIO or gets it. @throws Error that says what to do */
export async function provideMinio(say: (line: string) => void): Promise<MinioProgram> {
  const found = await findMinio()
  if (found !== undefined) return { kind: 'binary', path: found }
  const problems: string[] = []
  if (await works('go', ['version'])) {
    try {
      await installWithGo(say)
      return { kind: 'binary', path: join(CACHE, 'minio') }
    } catch (error) {
      problems.push(`go install failed: ${(error as Error).message}`)
    }
  } else problems.push('there is no Go')
  if (await works('docker', ['info'])) return { kind: 'container' }
  problems.push('there is no Docker that answers')
  throw new Error(`MinIO was not found and could not be installed: ${problems.join('; ')}.\n` +
    `Put a minio program on PATH, or install Go 1.24 or newer (then it is built with: go install ${MODULE}), or start Docker.`)
}

async function works(command: string, args: string[]): Promise<boolean> {
  return await run(command, args, { timeout: 10_000 }).then(() => true, () => false)
}

async function installWithGo(say: (line: string) => void): Promise<void> {
  say(`MinIO is not on this machine: building it with go install into ${CACHE} (some minutes, once)`)
  const startedAt = Date.now()
  const progress = setInterval(() => say(`  still building, ${Math.round((Date.now() - startedAt) / 1000)} s`), PROGRESS_INTERVAL_MS)
  try {
    await mkdir(CACHE, { recursive: true })
    await run('go', ['install', MODULE], { env: { ...process.env, GOBIN: CACHE }, maxBuffer: 64 * 1024 * 1024 })
    say(`  built in ${Math.round((Date.now() - startedAt) / 1000)} s`)
  } finally {
    clearInterval(progress)
  }
}

/** Starts MinIO and makes its bucket. */
export async function startMinio(options: MinioOptions = {}): Promise<Minio> {
  const program = options.program ?? await provideMinio(line => process.stderr.write(`${line}\n`))
  const port = options.port ?? await freePort()
  const dataDir = resolve(options.dataDir ?? await mkdtemp(join(tmpdir(), 'penstock-minio-')))
  await mkdir(dataDir, { recursive: true })
  const credentials = { accessKeyId: 'penstock', secretAccessKey: 'penstock-on-loopback' }
  const endpoint = `http://127.0.0.1:${port}`
  const bucket = options.bucket ?? 'penstock'
  const start = (): Promise<TetheredServer> => startServer(program, { port, dataDir, ...credentials })
  let server: TetheredServer | undefined
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    await server?.end(signal)
    if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true })
  }
  try {
    server = await start()
    await createBucket({ endpoint, bucket, ...credentials })
  } catch (error) {
    await stop('SIGKILL')
    throw error
  }
  let running = server
  return {
    endpoint, bucket, ...credentials,
    get pid() { return running.pid },
    kill: signal => running.end(signal),
    async restart() {
      await running.end('SIGTERM')
      server = running = await start()
    },
    stop: () => stop('SIGTERM')
  }
}

/** Makes a bucket, if it is not there, on a server at this address. */
export async function createBucket(at: { endpoint: string, bucket: string, accessKeyId: string, secretAccessKey: string }): Promise<void> {
  const store = s3ObjectStore({ ...at, region: 'us-east-1', forcePathStyle: true, maxSockets: 1 })
  try {
    await store.createBucket()
  } finally {
    await store.close()
  }
}

interface ServerOptions { port: number, dataDir: string, accessKeyId: string, secretAccessKey: string }

function startServer(program: MinioProgram, options: ServerOptions): Promise<TetheredServer> {
  const container = program.kind === 'container' ? `penstock-minio-${randomUUID()}` : undefined
  return startTethered({
    name: 'MinIO',
    command: commandOf(program, container, options),
    env: { ...process.env, MINIO_ROOT_USER: options.accessKeyId, MINIO_ROOT_PASSWORD: options.secretAccessKey, MINIO_BROWSER: 'off', MINIO_UPDATE: 'off' },
    isReady: () => answers(options.port),
    ...(container === undefined ? {} : {
      whenCutOff: `docker kill ${container}`,
      signal: async signal => { await run('docker', ['kill', '--signal', signal, container]).catch(() => {}) }
    })
  })
}

function commandOf(program: MinioProgram, container: string | undefined, { port, dataDir }: ServerOptions): [string, ...string[]] {
  if (program.kind === 'binary') return [program.path, 'server', '--quiet', '--address', `127.0.0.1:${port}`, dataDir]
  const environment = ['MINIO_ROOT_USER', 'MINIO_ROOT_PASSWORD', 'MINIO_BROWSER'].flatMap(name => ['--env', name])
  return ['docker', 'run', '--rm', '--init', '--name', container!, ...environment, '--publish', `127.0.0.1:${port}:9000`, '--volume', `${dataDir}:/data`, IMAGE, 'server', '/data']
}

/** It says that it is ready before it has read whom it lets in; until then it answers everybody with 503, and then a stranger with 403. */
async function answers(port: number): Promise<boolean> {
  for (const [path, status] of [['/minio/health/ready', 200], ['/', 403]] as const) {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined)
    await answer?.body?.cancel()
    if (answer?.status !== status) return false
  }
  return true
}
