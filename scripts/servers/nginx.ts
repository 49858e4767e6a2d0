/**
 * A real nginx on loopback: one process that serves a folder as plain files, to compare answers with, or that stands in front
 * of several nodes as docker/nginx.conf says.
 *
 *     node scripts/servers/nginx.ts     finds it or gets it, and prints where it is (debian.ts says how)
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { findProgram, provideProgram, type Program } from './debian.ts'
import { freePort, startTethered } from './tethered.ts'

const EXAMPLE = resolve(import.meta.dirname, '../../docker/nginx.conf')
const NGINX = { name: 'nginx', files: ['nginx'], debian: 'nginx' }

export interface Nginx {
  /** http://127.0.0.1:<port> */
  readonly url: string
  /** The folder that it serves: a file `a.bin` in it is `<url>/a.bin`. */
  readonly folder: string
  readonly pid: number
  /** Ends it and removes its folder, unless `folder` was given. Idempotent. */
  stop(): Promise<void>
}

export interface NginxOptions {
  /** default: a temporary one */
  folder?: string
  /** Lines for its `server { … }`, such as `location /x { … }`. */
  server?: string
  /** In place of its own server: what stands in its `http { … }`, for the port that it gets. */
  site?: (port: number) => string
  program?: Program
}

export const findNginx = (): Promise<Program | undefined> => findProgram(NGINX)

/** @throws Error that says what to do */
export const provideNginx = (say: (line: string) => void): Promise<Program> => provideProgram(NGINX, say)

export async function startNginx(options: NginxOptions = {}): Promise<Nginx> {
  const program = options.program ?? await provideNginx(line => process.stderr.write(`${line}\n`))
  const home = await mkdtemp(join(tmpdir(), 'penstock-nginx-'))
  const folder = resolve(options.folder ?? join(home, 'files'))
  await mkdir(folder, { recursive: true })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const settings = join(home, 'nginx.conf')
  await writeFile(settings, configuration(home, options.site?.(port) ?? ownServer(folder, port, options.server ?? '')))
  try {
    const server = await startTethered({
      name: 'nginx', env: program.env,
      command: [program.path, '-p', home, '-e', 'stderr', '-c', settings],
      isReady: () => answers(url)
    })
    return {
      url, folder, pid: server.pid,
      async stop() {
        await server.end('SIGTERM')
        await rm(home, { recursive: true, force: true })
      }
    }
  } catch (error) {
    await rm(home, { recursive: true, force: true })
    throw error
  }
}

/**
 * One process, without a master: a master that is killed leaves its workers behind, and workers of root's master run as
 * another user, who may not read the folder.
 */
function configuration(home: string, site: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(each => `${each}_temp_path "${join(home, each)}";`)
  return `
daemon off;
master_process off;
pid "${join(home, 'nginx.pid')}";
error_log stderr warn;
events { worker_connections 1024; }
http {
  ${temporary.join('\n  ')}
  access_log off;
  default_type application/octet-stream;
  types { text/plain txt; application/json json; image/png png; application/pdf pdf; video/mp4 mp4; }
  ${site}
}
`
}

function ownServer(folder: string, port: number, server: string): string {
  return `server {
    listen 127.0.0.1:${port};
    root "${folder}";
    ${server}
  }`
}

/** docker/nginx.conf in front of services at these addresses, on a loopback port. */
export async function balancerSite(addresses: readonly string[]): Promise<(port: number) => string> {
  const example = await readFile(EXAMPLE, 'utf8')
  const servers = addresses.map(address => `server ${address} max_fails=1 fail_timeout=1s;`).join(' ')
  const text = example.replaceAll(/^ *server \S+:4000 .*\n/gm, '').replace('upstream penstock {', `upstream penstock { ${servers}`)
  return port => text.replace('listen 80;', `listen 127.0.0.1:${port};`)
}

async function answers(url: string): Promise<boolean> {
  const answer = await fetch(url).catch(() => undefined)
  await answer?.body?.cancel()
  return answer !== undefined
}

if (import.meta.main) console.log((await provideNginx(line => console.error(line))).path)
