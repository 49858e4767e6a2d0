/**
 * A program that Debian has, without installing it: its packages, and those it needs that this machine lacks, are downloaded
 * and unpacked into .cache/debian of this checkout. So no service starts, nothing of the system changes, and it does not
 * take root, which is only needed to bring apt's lists up to date.
 *
 *   find     on PATH → in the places of system programs → in .cache/debian
 *   get      apt-get --simulate says which packages are missing; apt-get download, dpkg-deb --extract
 */
import { execFile } from 'node:child_process'
import { access, constants, mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises'
import { delimiter, join, resolve } from 'node:path'
import { promisify } from 'node:util'

const CACHE = resolve(import.meta.dirname, '../../.cache/debian')
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/opt/homebrew/bin']
const APT_TIMEOUT_MS = 300_000

const run = promisify(execFile)

export interface Packaged {
  /** of the program, as messages call it */
  readonly name: string
  /** names of its file, the best first */
  readonly files: readonly string[]
  /** Debian's package */
  readonly debian: string
}

/** A program, and what its environment must have. */
export interface Program {
  readonly path: string
  readonly env: NodeJS.ProcessEnv
}

/** Where it is on this machine, without getting anything. */
export async function findProgram(packaged: Packaged): Promise<Program | undefined> {
  const folders = [...(process.env.PATH ?? '').split(delimiter).filter(Boolean), ...SYSTEM_FOLDERS]
  const installed = await firstExecutable(folders, packaged.files)
  if (installed !== undefined) return { path: installed, env: process.env }
  const root = join(CACHE, packaged.debian)
  const path = await firstExecutable(['usr/sbin', 'usr/bin'].map(folder => join(root, folder)), packaged.files)
  return path === undefined ? undefined : { path, env: { ...process.env, LD_LIBRARY_PATH: await libraryPath(root) } }
}

/** Finds it or gets it. @throws Error that says what to do */
export async function provideProgram(packaged: Packaged, say: (line: string) => void): Promise<Program> {
  const found = await findProgram(packaged)
  if (found !== undefined) return found
  try {
    await unpack(packaged, say)
  } catch (error) {
    const { stderr = '', message } = error as { stderr?: string, message: string }
    const [file] = packaged.files
    throw new Error(`${packaged.name} was not found and could not be got: ${stderr.trim() || message}\n` +
      `Put ${file} on PATH (Debian and Ubuntu: apt-get install ${packaged.debian}; macOS: brew install ${packaged.name.toLowerCase()}).`, { cause: error })
  }
  const provided = await findProgram(packaged)
  if (provided === undefined) throw new Error(`${packaged.debian} of this Debian holds none of ${packaged.files.join(', ')}`)
  return provided
}

async function firstExecutable(folders: readonly string[], names: readonly string[]): Promise<string | undefined> {
  for (const path of names.flatMap(name => folders.map(folder => join(folder, name)))) {
    if (await access(path, constants.X_OK).then(() => true, () => false)) return path
  }
  return undefined
}

/** What installing puts links to, or a program knows the folder of (RUNPATH): beside the other libraries. */
const LIBRARY_SUBFOLDERS = ['', 'blas', 'lapack', 'pulseaudio']

/** usr/lib/x86_64-linux-gnu and its like. */
async function libraryPath(root: string): Promise<string> {
  const found: string[] = []
  for (const folder of ['usr/lib', 'lib'].map(each => join(root, each))) {
    const names = await readdir(folder).catch(() => [])
    found.push(...names.filter(name => /-linux-gnu\w*$/.test(name)).flatMap(name => LIBRARY_SUBFOLDERS.map(each => join(folder, name, each))))
  }
  return [...found, process.env.LD_LIBRARY_PATH ?? ''].filter(Boolean).join(delimiter)
}

async function unpack({ name, debian }: Packaged, say: (line: string) => void): Promise<void> {
  if (!await works('apt-get', ['--version']) || !await works('dpkg-deb', ['--version'])) throw new Error('this is no Debian: there is no apt-get')
  say(`${name} is not on this machine: getting Debian's ${debian} into ${CACHE}`)
  await mkdir(CACHE, { recursive: true })
  const folder = await mkdtemp(join(CACHE, 'getting-'))
  try {
    const root = join(folder, 'root')
    await mkdir(root)
    await download(debian, folder).catch(async (error: unknown) => {
      if (process.getuid?.() !== 0) throw error
      // apt's lists may be missing, or too old
      await run('apt-get', ['update', '--quiet'], { timeout: APT_TIMEOUT_MS })
      await download(debian, folder)
    })
    for (const file of (await readdir(folder)).filter(each => each.endsWith('.deb'))) await run('dpkg-deb', ['--extract', join(folder, file), root])
    // whole or not at all; another process may have been faster
    await rename(root, join(CACHE, debian)).catch(async error => {
      if (!await stat(join(CACHE, debian)).then(() => true, () => false)) throw error
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The package and what it needs that is not installed. */
async function download(debian: string, folder: string): Promise<void> {
  const { stdout } = await run('apt-get', ['install', '--simulate', '--no-install-recommends', '--quiet', debian])
  const packages = [...stdout.matchAll(/^Inst (\S+) /gm)].map(match => match[1]!)
  if (packages.length === 0) throw new Error(`${debian} is installed, but its program is nowhere`)
  await run('apt-get', ['download', '--quiet', ...packages], { cwd: folder, timeout: APT_TIMEOUT_MS })
}

async function works(command: string, args: readonly string[]): Promise<boolean> {
  return await run(command, args).then(() => true, () => false)
}
