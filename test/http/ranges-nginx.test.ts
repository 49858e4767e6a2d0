/**
 * Ranges and conditions as Debian's nginx answers them for the same bytes and the same time, which is what clients are made
 * for. Where Penstock answers otherwise it is on purpose, and the row says why: sections are of RFC 9110.
 *
 * An answer is written as its status and, where there are bytes, the range of them. Each server is sent its own entity tag
 * where a row says TAG; times are of the file (AT), a second before and a second after.
 */
import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { utimes, writeFile } from 'node:fs/promises'
import { request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import type { Test } from 'tap'
import { nginxOrSkip } from '../support/nginx.ts'
import { RESULT, seederOf } from '../support/seed.ts'
import { startApp } from '../support/start-app.ts'

type Headers = Record<string, string>

/** `[headers, answer]` of both, or `[headers, answer of nginx, answer of Penstock, why]`. */
type Row = readonly [headers: Headers, both: string] | readonly [headers: Headers, nginx: string, penstock: string, why: string]

const AT = 'AT'
const BEFORE = 'BEFORE'
const AFTER = 'AFTER'
const TAG = 'TAG'

const INVALID = '§14.2: a range that is not valid may be passed over or refused; whoever sends one gets all, as from before there were ranges'
const SEVERAL = '§14.2: a server may pass over a range; several in one answer cost more than they spare'
const HEAD_RANGE = '§14.2: ranges are for GET, and have to be passed over elsewhere'
const LATER = '§13.1.3: not modified since is earlier or equal, not equal'
const TAG_FIRST = '§13.1.3: If-Modified-Since has to be passed over where If-None-Match stands'
const GUARD_FIRST = '§13.2.2: If-Unmodified-Since counts only where If-Match does not stand'
const CLAMPED = '§14.1.2: an end behind the last byte stands for the last byte, however far behind'
const NOTHING = '§14.1.2: what begins at the end of a file or behind it cannot be satisfied, and of an empty file that is everything'
const NO_DATE = '§13.1.4: what is no date has to be passed over'

/** Of a file of 1000 bytes. */
const RANGES: readonly Row[] = [
  [{}, '200 0-999'],
  [{ range: 'bytes=0-0' }, '206 0-0'],
  [{ range: 'bytes=0-' }, '206 0-999'],
  [{ range: 'bytes=0-999' }, '206 0-999'],
  [{ range: 'bytes=10-19' }, '206 10-19'],
  [{ range: 'bytes=999-' }, '206 999-999'],
  [{ range: 'bytes=990-5000' }, '206 990-999'],
  [{ range: 'bytes=-1' }, '206 999-999'],
  [{ range: 'bytes=-1000' }, '206 0-999'],
  [{ range: 'bytes=-5000' }, '206 0-999'],
  [{ range: 'BYTES=1-2' }, '206 1-2'],
  [{ range: 'bytes= 1-2' }, '206 1-2'],
  [{ range: 'bytes=0001-0002' }, '206 1-2'],
  [{ range: 'bytes=1000-' }, '416'],
  [{ range: 'bytes=1000-2000' }, '416'],
  [{ range: 'bytes=-0' }, '416'],
  [{ range: 'bytes=99999999999999999999999-' }, '416'],
  [{ range: 'bytes=1-99999999999999999999999' }, '416', '206 1-999', CLAMPED],
  [{ range: 'bytes=-99999999999999999999999' }, '416', '206 0-999', CLAMPED],
  [{ range: 'lines=0-1' }, '200 0-999'],
  [{ range: '0-1' }, '200 0-999'],
  [{ range: 'bytes=' }, '200 0-999'],
  [{ range: '' }, '200 0-999'],
  [{ range: 'bytes=5-2' }, '416', '200 0-999', INVALID],
  [{ range: 'bytes=-' }, '416', '200 0-999', INVALID],
  [{ range: 'bytes=a-b' }, '416', '200 0-999', INVALID],
  [{ range: 'bytes=1' }, '416', '200 0-999', INVALID],
  [{ range: 'bytes=1-2-3' }, '416', '200 0-999', INVALID],
  [{ range: 'bytes=+1-2' }, '416', '200 0-999', INVALID],
  [{ range: 'bytes=0-1,5-6' }, '206 several', '200 0-999', SEVERAL],
  [{ range: 'bytes=0-1,' }, '416', '200 0-999', INVALID],
  [{ range: 'bytes=0-1,0-1,0-1' }, '206 several', '200 0-999', SEVERAL]
]

const IF_RANGE: readonly Row[] = [
  [{ range: 'bytes=0-9', 'if-range': TAG }, '206 0-9'],
  [{ range: 'bytes=0-9', 'if-range': '"other"' }, '200 0-999'],
  [{ range: 'bytes=0-9', 'if-range': `W/${TAG}` }, '200 0-999'],
  [{ range: 'bytes=0-9', 'if-range': AT }, '206 0-9'],
  [{ range: 'bytes=0-9', 'if-range': BEFORE }, '200 0-999'],
  [{ range: 'bytes=0-9', 'if-range': AFTER }, '200 0-999'],
  [{ range: 'bytes=0-9', 'if-range': 'yesterday' }, '200 0-999'],
  [{ range: 'bytes=2000-', 'if-range': '"other"' }, '200 0-999'],
  [{ range: 'bytes=2000-', 'if-range': TAG }, '416'],
  [{ 'if-range': '"other"' }, '200 0-999']
]

const CONDITIONS: readonly Row[] = [
  [{ 'if-none-match': TAG }, '304'],
  [{ 'if-none-match': `W/${TAG}` }, '304'],
  [{ 'if-none-match': '*' }, '304'],
  [{ 'if-none-match': `"other", ${TAG}` }, '304'],
  [{ 'if-none-match': `"other",W/${TAG} , "more"` }, '304'],
  [{ 'if-none-match': '"other"' }, '200 0-999'],
  [{ 'if-none-match': TAG, range: 'bytes=0-9' }, '304'],
  [{ 'if-none-match': '"other"', range: 'bytes=0-9' }, '206 0-9'],
  [{ 'if-modified-since': AT }, '304'],
  [{ 'if-modified-since': BEFORE }, '200 0-999'],
  [{ 'if-modified-since': AFTER }, '200 0-999', '304', LATER],
  [{ 'if-modified-since': 'yesterday' }, '200 0-999'],
  [{ 'if-modified-since': AT, range: 'bytes=0-9' }, '304'],
  [{ 'if-none-match': TAG, 'if-modified-since': AT }, '304'],
  [{ 'if-none-match': '"other"', 'if-modified-since': AT }, '200 0-999'],
  [{ 'if-none-match': TAG, 'if-modified-since': BEFORE }, '200 0-999', '304', TAG_FIRST],
  [{ 'if-match': TAG }, '200 0-999'],
  [{ 'if-match': '*' }, '200 0-999'],
  [{ 'if-match': `"other", ${TAG}` }, '200 0-999'],
  [{ 'if-match': '"other"' }, '412'],
  [{ 'if-match': `W/${TAG}` }, '412'],
  [{ 'if-match': TAG, range: 'bytes=0-9' }, '206 0-9'],
  [{ 'if-match': '"other"', range: 'bytes=0-9' }, '412'],
  [{ 'if-match': '"other"', 'if-none-match': TAG }, '412'],
  [{ 'if-match': TAG, 'if-none-match': TAG }, '304'],
  [{ 'if-unmodified-since': AT }, '200 0-999'],
  [{ 'if-unmodified-since': AFTER }, '200 0-999'],
  [{ 'if-unmodified-since': BEFORE }, '412'],
  [{ 'if-unmodified-since': BEFORE, range: 'bytes=0-9' }, '412'],
  [{ 'if-unmodified-since': 'yesterday' }, '412', '200 0-999', NO_DATE],
  [{ 'if-match': TAG, 'if-unmodified-since': BEFORE }, '412', '200 0-999', GUARD_FIRST],
  [{ 'if-match': '"other"', 'if-unmodified-since': AFTER }, '412']
]

/** Without bytes, but with the headers that they would have. */
const HEAD: readonly Row[] = [
  [{}, '200 0-999'],
  [{ range: 'bytes=0-9' }, '206 0-9', '200 0-999', HEAD_RANGE],
  [{ range: 'bytes=2000-' }, '416', '200 0-999', HEAD_RANGE],
  [{ 'if-none-match': TAG }, '304'],
  [{ 'if-none-match': '"other"' }, '200 0-999'],
  [{ 'if-modified-since': AT }, '304'],
  [{ 'if-match': '"other"' }, '412'],
  [{ 'if-unmodified-since': BEFORE }, '412']
]

const EMPTY: readonly Row[] = [
  [{}, '200 nothing'],
  [{ range: 'bytes=0-' }, '200 nothing', '416', NOTHING],
  [{ range: 'bytes=0-0' }, '200 nothing', '416', NOTHING],
  [{ range: 'bytes=-1' }, '200 nothing']
]

const HEAD_EMPTY: readonly Row[] = [[{}, '200 nothing'], [{ range: 'bytes=0-' }, '200 nothing']]

interface Served { url: string, tag: string, at: number }
interface Given { status: number, headers: IncomingHttpHeaders, body: Buffer }

async function ask(method: string, url: string, headers: Headers): Promise<Given> {
  const asking = request(url, { method, headers, agent: false }).end()
  const [answer] = await once(asking, 'response') as [IncomingMessage]
  return { status: answer.statusCode!, headers: answer.headers, body: await buffer(answer) }
}

/** The header as this server is to be asked. */
function filled(value: string, { tag, at }: Served): string {
  const times: Record<string, number> = { [BEFORE]: -1000, [AT]: 0, [AFTER]: 1000 }
  const time = times[value]
  return time === undefined ? value.replace(TAG, tag) : new Date(at + time).toUTCString()
}

/** An answer in words; what it says of itself is checked against its bytes. */
function inWords(method: string, { status, headers, body }: Given, bytes: Buffer): string {
  if (status !== 200 && status !== 206) return String(status)
  if (headers['content-type']?.startsWith('multipart/byteranges') === true) return `${status} several`
  const whole = bytes.length === 0 ? [] : [0, bytes.length - 1]
  const [start = 0, end = -1] = status === 200 ? whole : rangeIn(headers['content-range'], bytes.length)
  assert.equal(headers['content-length'], String(end - start + 1))
  if (status === 200) assert.equal(headers['accept-ranges'], 'bytes')
  if (method === 'GET') assert.ok(body.equals(bytes.subarray(start, end + 1)), 'the bytes of the range')
  return `${status} ${end < start ? 'nothing' : `${start}-${end}`}`
}

function rangeIn(header: string | undefined, size: number): number[] {
  const match = new RegExp(`^bytes (\\d+)-(\\d+)/${size}$`).exec(header ?? '')
  assert.ok(match, `Content-Range: ${header}`)
  return match.slice(1).map(Number)
}

async function compare(t: Test, method: string, rows: readonly Row[], bytes: Buffer, servers: { nginx: Served, penstock: Served }): Promise<void> {
  for (const [headers, nginx, penstock = nginx, why] of rows) {
    const name = `${method} ${JSON.stringify(headers)}`
    for (const [server, expected] of [['nginx', nginx], ['penstock', penstock]] as const) {
      const served = servers[server]
      const given = await ask(method, served.url, Object.fromEntries(Object.entries(headers).map(([key, value]) => [key, filled(value, served)])))
      t.equal(inWords(method, given, bytes), expected, `${server}: ${name}${why === undefined ? '' : ` (${why})`}`)
      if (given.status < 400) t.equal(given.headers.etag, served.tag, `${server}: ${name} has the entity tag`)
      if (given.status === 416) t.equal(given.headers['content-range'], `bytes */${bytes.length}`, `${server}: ${name} says how much there is`)
      if ([200, 206].includes(given.status)) t.equal(given.headers['last-modified'], new Date(served.at).toUTCString(), `${server}: ${name} has the time`)
    }
  }
}

/** The same bytes as a file of nginx and as what `url` gives. */
async function serve(nginx: { url: string, folder: string }, bytes: Buffer, url: string): Promise<{ nginx: Served, penstock: Served }> {
  const { headers } = await ask('HEAD', url, {})
  const at = Date.parse(headers['last-modified']!)
  const name = `${randomUUID()}.bin`
  const file = join(nginx.folder, name)
  await writeFile(file, bytes)
  await utimes(file, at / 1000, at / 1000)
  const plain = await ask('HEAD', `${nginx.url}/${name}`, {})
  return { nginx: { url: `${nginx.url}/${name}`, tag: plain.headers.etag!, at }, penstock: { url, tag: headers.etag!, at } }
}

const nginx = await nginxOrSkip(t)
if (nginx !== undefined) {
  const app = await startApp(t, { API_V1_RATE_LIMIT_MAX: '0' })
  const seeder = seederOf(t, app)
  const owner = { subject: 'dev', account: 'local', clientId: null }
  for (const [what, addressOf] of [
    ['a file', async (bytes: Buffer) => `/files/${await seeder.file(owner, 'account', [], bytes)}`],
    ['the result of a job', async (bytes: Buffer) => `/api/v1/jobs/${(await seeder.job(owner, 'completed', bytes)).id}/results/${RESULT}`]
  ] as const) {
    for (const [how, bytes, tables] of [
      ['with bytes', randomBytes(1000), [['GET', RANGES], ['GET', IF_RANGE], ['GET', CONDITIONS], ['HEAD', HEAD]]],
      ['empty', Buffer.alloc(0), [['GET', EMPTY], ['HEAD', HEAD_EMPTY]]]
    ] as const) {
      await t.test(`${what} (${how}) answers as a file of nginx does`, async t => {
        const servers = await serve(nginx, bytes, app.url + await addressOf(bytes))
        for (const [method, rows] of tables) await compare(t, method, rows, bytes, servers)
      })
    }
  }
}
