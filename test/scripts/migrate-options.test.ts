import t from 'tap'
import { holderOf } from '../../scripts/migrate/holders.ts'
import { readCommand, UsageError } from '../../scripts/migrate/options.ts'
import { barText } from '../../scripts/migrate/progress.ts'
import { bytesText, plain, secondsText } from '../../scripts/migrate/show.ts'

const asUser = ['--account', 'acme', '--subject', 'u1']

t.test('what is wrong with a command line is said', async t => {
  const wrong: [string[], RegExp][] = [
    [['from-folder', 'f'], /--account or --map is missing/],
    [['from-folder', ...asUser], /the folder is missing/],
    [['from-folder', 'f', 'g', ...asUser], /'g' is too much/],
    [['from-folder', 'f', '--subject', 'u1', '--map', 'a=b'], /--subject needs --account/],
    [['from-folder', 'f', '--account', ''], /take a name/],
    [['from-folder', 'f', ...asUser, '--access', 'all'], /--access takes account, public or restricted, not 'all'/],
    [['from-folder', 'f', ...asUser, '--concurrency', '0'], /--concurrency takes a whole number from 1 to 64/],
    [['from-folder', 'f', ...asUser, '--max-bytes', '1e3'], /--max-bytes takes a whole number/],
    [['from-folder', 'f', ...asUser, '--map', 'nothing'], /--map takes PREFIX=ACCOUNT/],
    [['from-folder', 'f', ...asUser, '--map', 'a=acme/'], /--map takes PREFIX=ACCOUNT/],
    [['from-folder', 'f', '--map', 'a/=acme/{subject}'], /--map has \{subject\} in 'acme\/\{subject\}', and not in 'a\/'/],
    [['from-folder', 'f', '--map', '{account}/{account}/=x'], /twice/],
    [['from-folder', 'f', ...asUser, '--allow-private'], /allow-private/],
    [['from-urls', ...asUser], /the list is missing/],
    [['from-urls', 'l', ...asUser, '--timeout', '0'], /--timeout takes a whole number/],
    [['from-bucket', ...asUser], /--bucket is missing/],
    [['from-bucket', '--bucket', 'b', '--endpoint', 'ftp://x', ...asUser], /--endpoint takes an http or https address/],
    [['between-stores', '--from', 'fs', '--to', 'fs'], /name the same store/],
    [['between-stores', '--from', 'fs'], /--to takes fs or s3/],
    [['between-stores', '--from', 'fs', '--to', 'memory'], /--to takes fs or s3, not 'memory'/],
    [['elsewhere'], /there is no command elsewhere/]
  ]
  for (const [args, message] of wrong) t.throws(() => readCommand(args), { constructor: UsageError, message }, args.join(' '))
  for (const args of [[], ['--help'], ['help'], ['from-folder', '--help']]) t.same(readCommand(args), { command: 'help' })
})

t.test('the first prefix that fits says whose a file is', async t => {
  const of = holderOf(['users/{subject}/=acme/{subject}', '{account}/{subject}/=x{account}/s-{subject}', 'a.b=literal', '=rest'], undefined)
  t.same(of('users/7/a/b.txt'), { holder: { account: 'acme', subject: '7' }, rest: 'a/b.txt' })
  t.same(of('t1/auth0|x/f'), { holder: { account: 'xt1', subject: 's-auth0|x' }, rest: 'f' })
  t.same(of('a.b.txt'), { holder: { account: 'literal', subject: null }, rest: '.txt' })
  t.same(of('axb.txt'), { holder: { account: 'rest', subject: null }, rest: 'axb.txt' }, 'a dot is a dot')
  t.equal(holderOf(['a/=b'], undefined)('c/d'), undefined)
  t.same(holderOf(['a/=b/c/d'], { account: 'z', subject: 's' })('a/d'), { holder: { account: 'b', subject: 'c/d' }, rest: 'd' })
  t.same(holderOf(['a/=b'], { account: 'z', subject: 's' })('c/d'), { holder: { account: 'z', subject: 's' }, rest: 'c/d' })
})

t.test('lines for people hold nothing that steers a terminal', async t => {
  t.equal(plain('a\u001b[2Jb\r\n\u202Ec\u0000'), 'a\\u{1b}[2Jb\\u{d}\\u{a}\\u{202e}c\\u{0}')
  t.equal(plain('ä b – ✓'), 'ä b – ✓')
  t.equal(plain('x'.repeat(1000)).length, 301)
  t.same([0, 1, 1023, 1024, 1536, 1024 ** 3, 5 * 1024 ** 4].map(bytesText), ['0 B', '1 B', '1023 B', '1.0 KiB', '1.5 KiB', '1.0 GiB', '5.0 TiB'])
  t.same([0, 59.9, 61, 3600, 7325, Number.POSITIVE_INFINITY].map(secondsText), ['0:00', '0:59', '1:01', '1:00 h', '2:02 h', '–'])
})

t.test('the bar says how far it is, also where there is nothing to do or nothing known', async t => {
  t.match(barText({ seen: 5, expected: { entries: 10, bytes: 2048 }, bytes: 1024, seconds: 2 }), /^█{12}░{12} 50% {2}5\/10 {2}1\.0 KiB {2}512 B\/s {2}0:02 left$/)
  t.match(barText({ seen: 0, expected: { entries: 0, bytes: 0 }, bytes: 0, seconds: 0 }), /^█{24} 100% {2}0\/0 {2}0 B {2}0 B\/s/)
  t.match(barText({ seen: 0, expected: { entries: 3, bytes: 3 }, bytes: 0, seconds: 1 }), /^░{24} 0% .*– left$/)
  t.equal(barText({ seen: 3, expected: undefined, bytes: 10, seconds: 1 }), '3 entries  10 B  10 B/s')
})
