/**
 * One GET of an address that somebody else wrote down. The same rules as for webhooks: http and https, no password, and
 * nothing but public addresses unless that is allowed, judged by what is connected to. Each redirect is judged anew.
 *
 * A body must say where it ends, by its length or by chunks: one that ends with its connection looks the same when it breaks.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { isPrivateAddress, literalAddress, publicLookup } from '../../src/jobs/webhook-address.ts'
import { REDIRECTS_MAX, URL_ANSWER_TIMEOUT_MS, URL_MAX_CHARACTERS } from './limits.ts'
import { SourceFault, type Opened } from './source.ts'

export interface FetchOptions {
  allowPrivate: boolean
  signal: AbortSignal
  /** from the head of the answer to its last byte */
  bodyTimeoutMs: number
  /** to the head of each answer; default URL_ANSWER_TIMEOUT_MS */
  answerTimeoutMs?: number
}

/** @throws SourceFault */
export async function fetchUrl(text: string, options: FetchOptions): Promise<Opened> {
  try {
    let url = checkUrl(text, options.allowPrivate)
    for (let redirects = 0; ; redirects++) {
      const response = await get(url, options)
      response.on('error', () => {}) // it may fail before anyone reads it; whoever reads it finds it destroyed
      const to = redirectOf(response)
      if (to === undefined) return describe(endInTime(response, options.bodyTimeoutMs))
      response.destroy()
      if (redirects === REDIRECTS_MAX) throw new SourceFault(`leads to more than ${REDIRECTS_MAX} redirects`)
      url = checkUrl(URL.canParse(to, url.href) ? new URL(to, url).href : to, options.allowPrivate)
    }
  } catch (error) {
    throw faultOf(error)
  }
}

function endInTime(response: IncomingMessage, timeoutMs: number): IncomingMessage {
  const timer = setTimeout(() => response.destroy(new SourceFault(`took longer than ${timeoutMs / 1000} s`)), timeoutMs)
  return response.once('close', () => clearTimeout(timer))
}

/** @throws SourceFault */
export function checkUrl(text: string, allowPrivate: boolean): URL {
  const url = text.length <= URL_MAX_CHARACTERS && URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') throw new SourceFault('is no http or https address')
  if (url.username !== '' || url.password !== '') throw new SourceFault('holds a user name or password')
  const address = literalAddress(url)
  if (!allowPrivate && address !== undefined && isPrivateAddress(address)) throw new SourceFault(`${address} is a private address: --allow-private lets it in`)
  return url
}

async function get(url: URL, { allowPrivate, signal, answerTimeoutMs = URL_ANSWER_TIMEOUT_MS }: FetchOptions): Promise<IncomingMessage> {
  const silent = new AbortController()
  const timer = setTimeout(() => silent.abort(new SourceFault(`did not answer within ${answerTimeoutMs / 1000} s`)), answerTimeoutMs)
  const https = url.protocol === 'https:'
  const options = {
    // a connection of its own each time: one that is kept was looked up some other time
    agent: https ? new HttpsAgent({ keepAlive: false }) : new HttpAgent({ keepAlive: false }),
    signal: AbortSignal.any([signal, silent.signal]),
    headers: { 'user-agent': 'penstock-migrate', accept: '*/*', 'accept-encoding': 'identity' },
    ...(!allowPrivate && { lookup: publicLookup() })
  }
  try {
    return await new Promise<IncomingMessage>((resolve, reject) => {
      const request = https ? httpsRequest(url, options) : httpRequest(url, options)
      request.on('response', resolve).on('error', reject).end()
    })
  } finally {
    clearTimeout(timer)
  }
}

function redirectOf({ statusCode = 0, headers }: IncomingMessage): string | undefined {
  return [301, 302, 303, 307, 308].includes(statusCode) ? headers.location : undefined
}

function describe(response: IncomingMessage): Opened {
  const { statusCode, headers } = response
  const fault = faultOfAnswer(response)
  if (fault !== undefined) {
    response.destroy()
    throw new SourceFault(statusCode === 200 ? fault : `answered ${statusCode}`)
  }
  const filename = filenameOf(headers['content-disposition'])
  return {
    body: response,
    ...(headers['content-length'] !== undefined && { size: Number(headers['content-length']) }),
    ...(headers['content-type'] !== undefined && { contentType: headers['content-type'] }),
    ...(filename !== undefined && { filename })
  }
}

function faultOfAnswer({ statusCode, headers }: IncomingMessage): string | undefined {
  if (statusCode !== 200) return `answered ${statusCode}`
  const coding = headers['content-encoding'] ?? 'identity'
  if (coding !== 'identity') return `was sent as ${coding}, which nobody asked for`
  const ends = headers['content-length'] !== undefined || /\bchunked$/i.test(headers['transfer-encoding'] ?? '')
  return ends ? undefined : 'was sent without a length: its end cannot be told from a broken connection'
}

/** RFC 6266, section 4.3: `filename*` before `filename`. What cannot be decoded is no name. */
function filenameOf(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const extended = /(?:^|;)\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]+)/i.exec(header)?.[1]
  const decoded = extended === undefined ? undefined : decode(extended)
  if (decoded !== undefined) return decoded
  const plain = /(?:^|;)\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))/i.exec(header)
  return plain?.[1]?.replaceAll(/\\(.)/g, '$1') ?? plain?.[2]
}

export function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** An abort is reported as such, with what it was about as its cause. */
function faultOf(error: unknown): SourceFault {
  for (let at: unknown = error; at instanceof Error; at = at.cause) if (at instanceof SourceFault) return at
  return new SourceFault(`cannot be fetched: ${(error as Error).message || (error as { code?: string }).code}`, { cause: error })
}
