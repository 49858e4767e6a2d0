import type { IncomingHttpHeaders } from 'node:http'
import t from 'tap'
import { decide, readDate } from '../../src/files/conditions.ts'
import { attachment } from '../../src/files/content-disposition.ts'

const lastModified = Date.UTC(2026, 0, 31, 12, 0, 0, 700)
const file = { etag: '"abc"', lastModified, size: 100 }
const same = 'Sat, 31 Jan 2026 12:00:00 GMT'
const before = 'Sat, 31 Jan 2026 11:59:59 GMT'
const after = 'Sat, 31 Jan 2026 12:00:01 GMT'

function status(headers: IncomingHttpHeaders, method = 'GET', size = 100): number {
  return decide(method, headers, { ...file, size }).status
}

t.test('If-Match and If-Unmodified-Since guard: what does not hold is 412', async t => {
  for (const [value, expected] of [
    ['"abc"', 200], ['*', 200], [' * ', 200], ['"x", "abc"', 200], ['"x,y","abc"', 200], ['"x"', 412], ['W/"abc"', 412], ['abc', 412], ['', 412], ['"abc', 412], ['"abc" "x"', 412], ['"x",, "abc"', 200]
  ] as const) t.equal(status({ 'if-match': value }), expected, value)
  for (const [value, expected] of [[same, 200], [after, 200], [before, 412], ['yesterday', 200], ['', 200]] as const) {
    t.equal(status({ 'if-unmodified-since': value }), expected, value)
  }
  t.equal(status({ 'if-match': '"abc"', 'if-unmodified-since': before }), 200, 'the date is not looked at beside If-Match')
})

t.test('If-None-Match and If-Modified-Since spare the bytes: 304', async t => {
  for (const [value, expected] of [
    ['"abc"', 304], ['W/"abc"', 304], ['*', 304], ['"x" , W/"abc"', 304], ['"x"', 200], ['abc', 200], ['"ab', 200], ['', 200]
  ] as const) for (const method of ['GET', 'HEAD']) t.equal(status({ 'if-none-match': value }, method), expected, `${method} ${value}`)
  for (const [value, expected] of [[same, 304], [after, 304], [before, 200], ['31 Jan 2026', 200], [String(lastModified), 200]] as const) {
    t.equal(status({ 'if-modified-since': value }), expected, value)
  }
  t.equal(status({ 'if-none-match': '"x"', 'if-modified-since': after }), 200, 'the date is not looked at beside If-None-Match')
  t.equal(status({ 'if-match': '"x"', 'if-none-match': '"abc"' }), 412, 'what guards comes first')
  t.equal(status({ 'if-none-match': '"abc"', range: 'bytes=0-1' }), 304, 'and the range last')
  t.equal(decide('GET', { 'if-modified-since': after }, { etag: '"abc"', size: 1 }).status, 200, 'without a time of its own')
})

t.test('a range is cut to what is there', async t => {
  for (const [range, start, end] of [
    ['bytes=0-0', 0, 0], ['bytes=10-19', 10, 19], ['bytes=90-', 90, 99], ['bytes=0-', 0, 99], ['bytes=-5', 95, 99], ['bytes=-1000', 0, 99],
    ['bytes=50-1000', 50, 99], ['bytes=99-99', 99, 99], ['BYTES=1-2', 1, 2], ['bytes= 1-2 ', 1, 2], ['bytes=1-99999999999999999999999', 1, 99], ['bytes=0001-0002', 1, 2]
  ] as const) t.same(decide('GET', { range }, file), { status: 206, range: { start, end } }, range)
})

t.test('a range that lies outside is 416, and one that is not understood is none', async t => {
  for (const range of ['bytes=100-', 'bytes=100-200', 'bytes=-0', 'bytes=99999999999999999999999-']) t.equal(status({ range }), 416, range)
  for (const range of ['bytes=0-1,5-6', 'bytes=0-1,', 'bytes=5-2', 'bytes=-', 'bytes=', 'bytes', 'bytes=a-b', 'bytes=1', 'bytes=1-2-3', 'bytes=--1', 'bytes=+1-2', 'bytes=1.0-2', 'items=0-1', '0-1', '']) {
    t.equal(status({ range }), 200, range)
  }
  t.equal(status({ range: 'bytes=0-0' }, 'HEAD'), 200, 'a range is for GET')
  t.equal(status({ range: 'bytes=0-' }, 'GET', 0), 416, 'nothing of an empty file')
  t.equal(status({ range: 'bytes=-1' }, 'GET', 0), 200, 'but its last bytes are all of it')
})

t.test('If-Range lets a range hold only for the same bytes', async t => {
  for (const [value, expected] of [['"abc"', 206], ['"x"', 200], ['W/"abc"', 200], [same, 206], [before, 200], [after, 200], ['abc', 200], ['', 200]] as const) {
    t.equal(status({ range: 'bytes=0-0', 'if-range': value }), expected, value)
  }
  t.equal(status({ range: 'bytes=200-', 'if-range': '"x"' }), 200, 'no 416 where the range does not count')
  t.equal(status({ 'if-range': '"x"' }), 200)
})

t.test('dates are read in the three forms of RFC 9110, and in no other', async t => {
  const expected = Date.UTC(1994, 10, 6, 8, 49, 37)
  for (const text of ['Sun, 06 Nov 1994 08:49:37 GMT', 'Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994']) t.equal(readDate(text, Date.UTC(2026, 0)), expected, text)
  t.equal(readDate('Friday, 06-Nov-76 08:49:37 GMT', Date.UTC(2026, 0)), Date.UTC(2076, 10, 6, 8, 49, 37), 'in 50 years')
  t.equal(readDate('Friday, 06-Nov-77 08:49:37 GMT', Date.UTC(2026, 0)), Date.UTC(1977, 10, 6, 8, 49, 37), 'that would be more')
  for (const text of ['Sun, 06 Nov 1994 08:49:37', 'Sun, 06 Nov 1994 08:49:37 CET', 'Sun, 6 Nov 1994 08:49:37 GMT', 'Sun, 32 Nov 1994 08:49:37 GMT', 'Sun, 06 Nov 1994 24:49:37 GMT', '1994-11-06', '0', '', undefined]) {
    t.equal(readDate(text), undefined, String(text))
  }
})

t.test('a name stays inside its header, in ASCII and in full', async t => {
  for (const [name, header] of [
    ['photo.png', `attachment; filename="photo.png"; filename*=UTF-8''photo.png`],
    ['Über "uns".png', `attachment; filename="_ber _uns_.png"; filename*=UTF-8''%C3%9Cber%20%22uns%22.png`],
    ['a\r\nSet-Cookie: x=y', `attachment; filename="a__Set-Cookie: x=y"; filename*=UTF-8''a__Set-Cookie%3A%20x%3Dy`],
    ['../../etc/passwd', `attachment; filename=".._.._etc_passwd"; filename*=UTF-8''.._.._etc_passwd`],
    ['a\\b%41', `attachment; filename="a_b_41"; filename*=UTF-8''a_b%2541`],
    ["it's (1)*.png", `attachment; filename="it's (1)*.png"; filename*=UTF-8''it%27s%20%281%29%2A.png`],
    ['\ud800.png', `attachment; filename="_.png"; filename*=UTF-8''%EF%BF%BD.png`],
    ['photo\u202egnp.exe', `attachment; filename="photo_gnp.exe"; filename*=UTF-8''photo_gnp.exe`],
    ['😀', `attachment; filename="_"; filename*=UTF-8''%F0%9F%98%80`],
    ['', `attachment; filename="file"; filename*=UTF-8''file`]
  ] as const) {
    t.equal(attachment(name), header, name)
    t.match(attachment(name), /^[\x20-\x7e]+$/)
  }
})
