import t from 'tap'
import { cleanFilename } from '../../src/ingest/filename.ts'

t.test('filenames are cleaned for people and stay readable', async t => {
  const rows: [string, string][] = [
    ['photo.jpg', 'photo.jpg'],
    ['  Ünïcode – Ж 写真 (1).png ', 'Ünïcode_Ж 写真_1_.png'],
    ['../../etc/passwd', '_.._etc_passwd'],
    ['..\\..\\boot.ini', '_.._boot.ini'],
    ['a\u0000b.txt', 'a_b.txt'],
    ['a\r\nSet-Cookie: x', 'a_Set-Cookie_x'],
    ['a \t  b__c', 'a_b_c'],
    ['.hidden', 'hidden'],
    ['name. . ', 'name'],
    ['...', 'unnamed_file'],
    ['\u202Eexe.jpg', '_exe.jpg'],
    ['\uD800x', '_x'],
    ['<script>"', '_script_']
  ]
  for (const [given, cleaned] of rows) t.equal(cleanFilename(given), cleaned, JSON.stringify(given))
})
