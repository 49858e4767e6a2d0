/** The stack of compose.yaml, brought up by Docker for real under a name, a port and secrets of its own. */
import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import type { Test } from 'tap'
import { freePort } from '../../scripts/servers/tethered.ts'

export const ROOT = join(import.meta.dirname, '../..')
const OUTPUT_MAX_BYTES = 64 * 1024 * 1024

export interface Outcome { readonly code: number, readonly stdout: string, readonly stderr: string }

export function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Outcome> {
  return new Promise(resolve => {
    execFile(command, args, { cwd: ROOT, env, maxBuffer: OUTPUT_MAX_BYTES }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr })
    })
  })
}

export function engineAnswers(): boolean {
  try {
    execFileSync('docker', ['info'], { stdio: 'ignore' })
    execFileSync('docker', ['compose', 'version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Settings of the shell that runs the tests must not reach the stack. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => /^(PATH|HOME|DOCKER_.*|TMPDIR)$/.test(name))
  const registry = process.env.NPM_CONFIG_REGISTRY ?? process.env.npm_config_registry
  return { ...Object.fromEntries(kept), ...(registry === undefined ? {} : { NPM_CONFIG_REGISTRY: registry }) }
}

export interface Stack {
  /** http://127.0.0.1:<published port> */
  readonly url: string
  /** of the administrator */
  readonly headers: Record<string, string>
  /** What `npm run env` wrote for it. */
  readonly secrets: Record<string, string>
  /** Ports of the profile observability. */
  readonly prometheus: string
  readonly grafana: string
  compose(...args: string[]): Promise<Outcome>
  /** The same with more files of settings, or of services, for everything from now on. */
  extend(...options: string[]): void
  /** Runs a command in a container. */
  exec(service: string, ...command: string[]): Promise<Outcome>
  /** The same; its output as bytes. @throws where it fails */
  bytesOf(service: string, ...command: string[]): Promise<Buffer>
  inspect<T>(service: string): Promise<T>
  /** A file that is gone with the test. */
  write(name: string, text: string): string
}

/** Gone with the test, with its volumes, networks and images. Nothing is started. */
export async function composeStack(t: Test): Promise<Stack> {
  const folder = mkdtempSync(join(tmpdir(), 'penstock-compose-'))
  const envFile = join(folder, '.env')
  execFileSync(process.execPath, [join(ROOT, 'scripts/make-env.ts'), envFile], { stdio: 'ignore' })
  const secrets = parseEnv(readFileSync(envFile, 'utf8')) as Record<string, string>
  const [port, prometheus, grafana] = [await freePort(), await freePort(), await freePort()]
  const project = `penstock-test-${randomBytes(4).toString('hex')}`
  const options = ['--project-name', project, '--env-file', envFile]
  const env = { ...cleanEnvironment(), PORT: String(port), PROMETHEUS_PORT: String(prometheus), GRAFANA_PORT: String(grafana) }
  const compose = (...args: string[]) => run('docker', ['compose', ...options, ...args], env)
  const id = async (service: string): Promise<string> => (await compose('ps', '--all', '--quiet', service)).stdout.trim()
  t.teardown(async () => {
    if (!t.passing()) console.error((await compose('logs', '--no-color', '--tail', '200')).stdout)
    const down = await compose('--profile', '*', 'down', '--volumes', '--rmi', 'local', '--remove-orphans', '--timeout', '5')
    if (down.code !== 0) console.error(down.stderr)
    // the classic builder leaves out the label by which --rmi local would find the images
    for (const service of ['penstock', 'gpu-node']) await run('docker', ['image', 'rm', '--force', `${project}-${service}`], cleanEnvironment())
    rmSync(folder, { recursive: true, force: true })
  })
  return {
    url: `http://127.0.0.1:${port}`, prometheus: `http://127.0.0.1:${prometheus}`, grafana: `http://127.0.0.1:${grafana}`,
    headers: { authorization: `Bearer ${secrets.ADMIN_TOKEN}` }, secrets, compose,
    extend: (...more) => { options.push(...more) },
    exec: (service, ...command) => compose('exec', '-T', service, ...command),
    bytesOf: (service, ...command) => new Promise((resolve, reject) => {
      execFile('docker', ['compose', ...options, 'exec', '-T', service, ...command], { cwd: ROOT, env, encoding: 'buffer', maxBuffer: OUTPUT_MAX_BYTES }, (error, stdout, stderr) => {
        if (error === null) resolve(stdout)
        else reject(new Error(stderr.toString(), { cause: error }))
      })
    }),
    async inspect<T>(service: string) {
      return (JSON.parse((await run('docker', ['inspect', await id(service)], cleanEnvironment())).stdout) as [T])[0]
    },
    write(name, text) {
      const path = join(folder, name)
      writeFileSync(path, text)
      return path
    }
  }
}
