/**
 * Conditional requests and ranges (RFC 9110, sections 13 and 14): what to answer a reader with, decided from the row of a file
 * alone, before its object is opened.
 *
 *   If-Match, else If-Unmodified-Since        does not hold: 412
 *   If-None-Match, else If-Modified-Since     does not hold: 304
 *   Range, and If-Range holds or is not there   206, or 416 where it lies outside
 *   else                                      200
 *
 * A condition that cannot be read is false where it guards (If-Match) and passed over elsewhere; so is a range. Of several
 * ranges the whole is answered, which is always allowed.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { ByteRange } from '../objects/port.ts'

export interface Representation {
  /** As it stands in the header: quoted, and strong where nothing else is said. */
  etag: string
  /** Epoch milliseconds; on the wire there are only seconds. Undefined where there is no such time. */
  lastModified?: number
  /** bytes */
  size: number
}

export type Decision =
  | { status: 200 }
  | { status: 206, range: ByteRange }
  | { status: 304 | 412 | 416 }

/** @param method GET or HEAD; a range is for GET alone */
export function decide(method: string, headers: IncomingHttpHeaders, file: Representation): Decision {
  if (!preconditionHolds(headers, file)) return { status: 412 }
  if (isUnchanged(headers, file)) return { status: 304 }
  if (method !== 'GET' || headers.range === undefined || !ifRangeHolds(headers['if-range'], file)) return { status: 200 }
  return rangeOf(headers.range, file.size)
}

/** For answers that are made anew each time: has the reader got what it would get? */
export function isUnchanged(headers: IncomingHttpHeaders, { etag, lastModified }: Pick<Representation, 'etag' | 'lastModified'>): boolean {
  const known = headers['if-none-match']
  if (known !== undefined) return matches(known, etag, weaklyEqual)
  const since = readDate(headers['if-modified-since'])
  return since !== undefined && lastModified !== undefined && seconds(lastModified) <= seconds(since)
}

function preconditionHolds(headers: IncomingHttpHeaders, { etag, lastModified }: Representation): boolean {
  const wanted = headers['if-match']
  if (wanted !== undefined) return matches(wanted, etag, stronglyEqual)
  const since = readDate(headers['if-unmodified-since'])
  return since === undefined || lastModified === undefined || seconds(lastModified) <= seconds(since)
}

function ifRangeHolds(condition: string | string[] | undefined, { etag, lastModified }: Representation): boolean {
  if (condition === undefined) return true
  if (typeof condition !== 'string') return false
  if (condition.includes('"')) return stronglyEqual(condition.trim(), etag)
  const date = readDate(condition)
  return date !== undefined && lastModified !== undefined && seconds(date) === seconds(lastModified)
}

type Comparison = (left: string, right: string) => boolean

const stronglyEqual: Comparison = (left, right) => left === right && !left.startsWith('W/')
const weaklyEqual: Comparison = (left, right) => left.replace(/^W\//, '') === right.replace(/^W\//, '')

/** Does a list of entity tags, or `*`, hold this one? A list that cannot be read holds none. */
function matches(list: string, etag: string, equal: Comparison): boolean {
  if (list.trim() === '*') return true
  return readTags(list)?.some(each => equal(each, etag)) ?? false
}

/** An entity tag may hold commas. */
function readTags(list: string): string[] | undefined {
  const tag = /[\t ]*(?:((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[\t ]*)?(?:,|$)/y
  const tags: string[] = []
  while (tag.lastIndex < list.length) {
    const match = tag.exec(list)
    if (match === null) return undefined
    if (match[1] !== undefined) tags.push(match[1])
  }
  return tags
}

/** One range in bytes, cut to what is there. */
function rangeOf(header: string, size: number): Decision {
  const match = /^bytes=[\t ]*(?:(\d+)-(\d*)|-(\d+))[\t ]*$/i.exec(header.trim())
  if (match === null) return { status: 200 }
  const [, first, last, suffix] = match
  if (suffix !== undefined) return suffixRange(Number(suffix), size)
  const start = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < start) return { status: 200 }
  return start < size ? { status: 206, range: { start, end } } : { status: 416 }
}

/** The last bytes. Of what is empty they are a range that Content-Range has no words for. */
function suffixRange(length: number, size: number): Decision {
  if (length === 0) return { status: 416 }
  if (size === 0) return { status: 200 }
  return { status: 206, range: { start: Math.max(0, size - length), end: size - 1 } }
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000)
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const MONTH = `(?<month>${MONTHS.join('|')})`
const TIME = String.raw`(?<hour>\d{2}):(?<minute>\d{2}):(?<second>\d{2})`
/** RFC 9110, section 5.6.7: the form of today, and the two that are obsolete but have to be read. */
const DATES = [
  new RegExp(String.raw`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?<day>\d{2}) ${MONTH} (?<year>\d{4}) ${TIME} GMT$`),
  new RegExp(String.raw`^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?<day>\d{2})-${MONTH}-(?<year>\d{2}) ${TIME} GMT$`),
  new RegExp(String.raw`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ${MONTH} (?<day>[ \d]\d) ${TIME} (?<year>\d{4})$`)
]

/** Epoch milliseconds, or undefined for what is no date. */
export function readDate(text: string | undefined, now = Date.now()): number | undefined {
  const parts = DATES.map(form => form.exec(text?.trim() ?? '')?.groups).find(groups => groups !== undefined)
  if (parts === undefined) return undefined
  const [day, hour, minute, second] = [parts.day, parts.hour, parts.minute, parts.second].map(Number) as [number, number, number, number]
  if (day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60) return undefined
  return Date.UTC(fullYear(parts.year!, now), MONTHS.indexOf(parts.month!), day, hour, minute, second)
}

/** Two digits that seem to lie more than 50 years ahead are of the century before. */
function fullYear(digits: string, now: number): number {
  if (digits.length === 4) return Number(digits)
  const thisYear = new Date(now).getUTCFullYear()
  const year = Math.floor(thisYear / 100) * 100 + Number(digits)
  return year > thisYear + 50 ? year - 100 : year
}
