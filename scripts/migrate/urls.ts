/**
 * Addresses of a list, one a line; a name for the file may follow behind a tab. Empty lines and those that begin with `#` are
 * passed over. An address may hold a secret behind its `?`: what is shown ends there.
 */
import { createReadStream } from 'node:fs'
import { access, constants } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { checkUrl, decode, fetchUrl } from './fetch-url.ts'
import { LINE_MAX_CHARACTERS } from './limits.ts'
import { SourceFault, type Entry, type Source } from './source.ts'

export interface UrlsOptions { allowPrivate: boolean, bodyTimeoutMs: number, answerTimeoutMs?: number }

/** @throws SourceFault where there is no such list */
export async function urlsSource(list: string, options: UrlsOptions): Promise<Source> {
  await access(list, constants.R_OK).catch(error => { throw new SourceFault(`the list ${list} cannot be read: ${(error as NodeJS.ErrnoException).code}`, { cause: error }) })
  return {
    entries: signal => read(list, options, signal),
    async close() {}
  }
}

async function* read(list: string, options: UrlsOptions, signal: AbortSignal): AsyncGenerator<Entry> {
  const input = createReadStream(list, { encoding: 'utf8' })
  const broken = new Promise<never>((_, reject) => { input.once('error', error => reject(new SourceFault(`the list cannot be read: ${error.message}`, { cause: error }))) })
  broken.catch(() => {})
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })[Symbol.asyncIterator]()
  try {
    for (let number = 1; !signal.aborted; number++) {
      const { done, value } = await Promise.race([lines.next(), broken])
      if (done) return
      const entry = entryOf(value, number, options)
      if (entry !== undefined) yield entry
    }
  } finally {
    input.destroy()
  }
}

function entryOf(text: string, number: number, options: UrlsOptions): Entry | undefined {
  const line = text.replace(/^\uFEFF/, '').trim()
  if (line === '' || line.startsWith('#')) return undefined
  const name = `line ${number}`
  if (line.length > LINE_MAX_CHARACTERS) return { name, outcome: 'failed', reason: `has more than ${LINE_MAX_CHARACTERS} characters` }
  const [address = '', filename = ''] = line.split('\t').map(part => part.trim())
  try {
    const url = checkUrl(address, options.allowPrivate)
    const path = decode(url.pathname) ?? url.pathname
    return {
      name: `${name} ${url.origin}${url.pathname}`,
      identity: JSON.stringify(['url', address]),
      path: `${url.host}${path}`,
      ...(filename !== '' && { filename }),
      open: signal => fetchUrl(address, { ...options, signal })
    }
  } catch (error) {
    if (error instanceof SourceFault) return { name, outcome: 'failed', reason: error.message }
    throw error
  }
}
