/** What a command has written: bounded while it runs, and only plain files of a plain name in the end. */
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { InferenceFailed } from '../port.ts'

export interface OutputLimits { maxOutputBytes: number, maxFiles: number }

export interface OutputFile { name: string, path: string, size: number }

/** Everything below `folder`, folders too; `given` of it is not the command's. @throws InferenceFailed invalid_input at the first that is too much */
export async function assertWithin(folder: string, { maxOutputBytes, maxFiles }: OutputLimits, given = { bytes: 0, files: 0 }): Promise<void> {
  let bytes = 0
  let files = 0
  const pending = [folder]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    for (const entry of await readdir(next, { withFileTypes: true }).catch(() => [])) {
      files += 1
      if (files > maxFiles + given.files) throw new InferenceFailed('invalid_input', `the command wrote more than ${maxFiles} files`)
      const path = join(next, entry.name)
      if (entry.isDirectory()) pending.push(path)
      else bytes += (await lstat(path).catch(() => undefined))?.size ?? 0
      if (bytes > maxOutputBytes + given.bytes) throw new InferenceFailed('invalid_input', `the command wrote more than ${maxOutputBytes} bytes`)
    }
  }
}

/** In the order of their names. @throws InferenceFailed invalid_input where one is no plain file, or none is there */
export async function listOutput(folder: string, limits: OutputLimits): Promise<OutputFile[]> {
  if (!(await lstat(folder).catch(() => undefined))?.isDirectory()) throw new InferenceFailed('invalid_input', 'the command left no folder of its own for its results')
  await assertWithin(folder, limits)
  const names = (await readdir(folder)).toSorted()
  const files = await Promise.all(names.map(name => describe(folder, name)))
  if (files.length === 0) throw new InferenceFailed('invalid_input', 'the command wrote no result')
  return files
}

async function describe(folder: string, name: string): Promise<OutputFile> {
  const path = join(folder, name)
  if (/[\p{Cc}\uFFFD\\]/u.test(name)) throw new InferenceFailed('invalid_input', `the command wrote a file whose name is none: ${JSON.stringify(name)}`)
  const info = await lstat(path)
  if (!info.isFile()) throw new InferenceFailed('invalid_input', `the command wrote "${name}", which is ${info.isSymbolicLink() ? 'a link' : info.isDirectory() ? 'a folder' : 'no file'}: only files become results`)
  return { name, path, size: info.size }
}
