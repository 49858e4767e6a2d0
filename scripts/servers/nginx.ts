/**
 * A real nginx on loopback, to compare answers with: one process that serves a folder as plain files.
 *
 *     node scripts/servers/nginx.ts     finds it or gets it, and prints where it is (debian.ts says how)
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { findProgram, provideProgram, type Program } from './debian.ts'
import { freePort, startTethered } from './tethered.ts'

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
  await writeFile(settings, configuration(home, folder, port, options.server ?? ''))
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
function configuration(home: string, folder: string, port: number, server: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(each => `${each}_temp_path "${join(home, each)}";`)
  return `
daemon off;
master_process off;
pid "${join(home, 'nginx.pid')}";
error_log stderr warn;
events { worker_connections 256; }
http {
  ${temporary.join('\n  ')}
  access_log off;
  default_type application/octet-stream;
  types { text/plain txt; application/json json; image/png png; application/pdf pdf; video/mp4 mp4; }
  server {
    listen 127.0.0.1:${port};
    root "${folder}";
    ${server}
  }
}
`
}

async function answers(url: string): Promise<boolean> {
  const answer = await fetch(url).catch(() => undefined)
  await answer?.body?.cancel()
  return answer !== undefined
}

if (import.meta.main) console.log((await provideNginx(line => console.error(line))).path)
