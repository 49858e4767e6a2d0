import t from 'tap'
import { contentTypeOf } from '../../src/files/content-type.ts'

const nothing = Buffer.from('nothing in particular')
const PNG = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=', 'base64')
const ZIP = Buffer.concat([Buffer.from('504b0304140000000800', 'hex'), Buffer.alloc(40)])
const OLE = Buffer.concat([Buffer.from('d0cf11e0a1b11ae1', 'hex'), Buffer.alloc(600)])
const DOCX = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'

t.test('without a sign in its bytes a file is what its client says, of what is allowed', async t => {
  for (const [claimed, stored] of [
    ['text/plain', 'text/plain'], ['Text/Plain; charset=utf-8', 'text/plain'], ['text/csv;header=present', 'text/csv'], ['application/json', 'application/json'],
    ['image/png', 'image/png'], ['image/jpg', 'image/jpeg'], ['video/x-matroska', 'video/x-matroska'], ['audio/mpeg', 'audio/mpeg'], [DOCX, DOCX],
    ['application/vnd.oasis.opendocument.text', 'application/vnd.oasis.opendocument.text'], ['application/pdf', 'application/pdf'], ['application/x-zip-compressed', 'application/zip']
  ] as const) t.equal(await contentTypeOf(claimed, nothing), stored, claimed)
})

t.test('what a browser might run, and what nobody knows, are bytes', async t => {
  for (const claimed of [
    undefined, '', 'x', 'text/html', 'TEXT/HTML; charset=utf-8', 'application/xhtml+xml', 'image/svg+xml', 'image/svg', 'text/xml', 'application/xml', 'application/rss+xml', 'text/javascript',
    'application/javascript', 'application/x-javascript', 'text/ecmascript', 'application/vnd.evil', 'text/markdown', 'image/', 'image/a b', 'image/<b>', 'application/octet-stream', 'multipart/mixed',
    'application/vnd.openxmlformats-officedocument.html'
  ]) t.equal(await contentTypeOf(claimed, nothing), 'application/octet-stream', String(claimed))
})

t.test('what the bytes say wins', async t => {
  for (const claimed of ['text/html', 'text/plain', 'application/pdf', 'x', undefined]) t.equal(await contentTypeOf(claimed, PNG), 'image/png')
  t.equal(await contentTypeOf('image/png', Buffer.from('%PDF-1.4')), 'application/pdf')
  t.equal(await contentTypeOf('image/png', ZIP), 'application/zip')
  t.equal(await contentTypeOf('text/plain', Buffer.from('<?xml version="1.0"?><a/>')), 'application/octet-stream', 'also where it is none that is allowed')
})

t.test('a container is what its client says, where that is one of its kinds', async t => {
  t.equal(await contentTypeOf(DOCX, ZIP), DOCX)
  t.equal(await contentTypeOf('application/msword', OLE), 'application/msword')
  t.equal(await contentTypeOf('application/msword', ZIP), 'application/zip')
  t.equal(await contentTypeOf('application/vnd.openxmlformats-officedocument.html', ZIP), 'application/octet-stream')
})

t.test('the beginning of a file is enough, and no beginning too short', async t => {
  for (let length = 0; length < PNG.length; length++) t.type(await contentTypeOf('image/png', PNG.subarray(0, length)), 'string')
  t.equal(await contentTypeOf('text/plain', Buffer.alloc(0)), 'text/plain')
})
