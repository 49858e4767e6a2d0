import t from 'tap'
import { fileNameOf } from '../../src/files/filename.ts'
import { FILENAME_MAX_BYTES } from '../../src/limits.ts'

t.test('a name is cleaned', async t => {
  t.equal(fileNameOf(' ..a/b\u0000\u202Ec  d. '), 'a_b_c_d')
  t.equal(fileNameOf('\r\n'), 'unnamed_file')
  t.equal(fileNameOf(''), 'unnamed_file')
})

t.test('a long name loses its middle, in whole characters, and keeps its ending', async t => {
  const whole = `${'a'.repeat(FILENAME_MAX_BYTES - 4)}.pdf`
  t.equal(fileNameOf(whole), whole)
  for (const name of [`a${whole}`, `${'ü'.repeat(400)}.pdf`, `${'\u{20000}'.repeat(300)}.pdf`]) {
    const short = fileNameOf(name)
    t.ok(Buffer.byteLength(short) <= FILENAME_MAX_BYTES && Buffer.byteLength(short) > FILENAME_MAX_BYTES - 4)
    t.match(short, /\.pdf$/)
    t.ok(short.isWellFormed())
    t.ok(name.startsWith(short.slice(0, -4)))
  }
  t.equal(fileNameOf('a'.repeat(500)).length, FILENAME_MAX_BYTES)
  t.equal(fileNameOf(`a.${'b'.repeat(500)}`).length, FILENAME_MAX_BYTES, 'what is too long for an ending is none')
})
