/** Pickles as Python writes them, in every protocol; and pickles that nobody writes who means well, by hand. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { PickleRefused, readPickle, type PickleValue } from '../../src/identity/pickle.ts'
import { PICKLE_CHARACTERS_MAX, PICKLE_DEPTH_MAX, PICKLE_INTEGER_MAX_BYTES, PICKLE_OPCODES_MAX } from '../../src/limits.ts'
import { pythonOrSkip } from '../support/python.ts'

interface Case { protocol: number, name: string, pickle: string, value?: unknown }

/** As make_pickles.py describes it. */
function describe(value: PickleValue): unknown {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value
  if (typeof value === 'number' && !Number.isInteger(value)) return { float: value }
  if (typeof value === 'number' || typeof value === 'bigint') return { int: String(value) }
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString('hex') }
  if (value instanceof Map) return { dict: [...value].map(pair => pair.map(describe)) }
  if (value instanceof Set) return { set: [...value].map(describe).toSorted((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1) }
  return { list: value.map(describe) }
}

/** Floats that are whole numbers are integers here. */
function expected(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.map(expected)
  if ('float' in value) {
    const number = Number((value.float as string).replace('inf', 'Infinity'))
    return Number.isInteger(number) ? { int: String(number) } : { float: number }
  }
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, expected(each)]))
}

const python = await pythonOrSkip(t)
if (python !== undefined) {
  const cases = await python(join(import.meta.dirname, 'python/make_pickles.py')) as Case[]

  for (let protocol = 0; protocol <= 5; protocol++) {
    t.test(`what Python writes with protocol ${protocol}`, async t => {
      const ofProtocol = cases.filter(each => each.protocol === protocol)
      t.ok(ofProtocol.length > 40)
      for (const { name, pickle, value } of ofProtocol) {
        const bytes = Buffer.from(pickle, 'hex')
        if (value === undefined) t.throws(() => readPickle(bytes), PickleRefused, `${name} is refused`)
        else t.same(describe(readPickle(bytes)), expected(value), name)
      }
    })
  }

  t.test('what is cut off anywhere is refused', async t => {
    for (const { pickle } of cases.filter(({ name }) => name === 'session with texts')) {
      const bytes = Buffer.from(pickle, 'hex')
      for (let length = 0; length < bytes.length; length++) {
        t.throws(() => readPickle(bytes.subarray(0, length)), PickleRefused)
      }
      t.throws(() => readPickle(Buffer.concat([bytes, Buffer.from('.')])), PickleRefused, 'and so is what goes on after its end')
    }
  })

  t.test('bytes that were changed give plain data or a refusal, never anything else', async t => {
    let seed = 1
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31
      return seed % below
    }
    const outcomes = { read: 0, refused: 0 }
    for (const { pickle, name } of cases.filter(each => each.pickle.length < 2000)) {
      for (let round = 0; round < 40; round++) {
        const bytes = Buffer.from(pickle, 'hex')
        bytes[random(bytes.length)] = random(256)
        try {
          readPickle(bytes)
          outcomes.read++
        } catch (error) {
          outcomes.refused++
          if (!(error instanceof PickleRefused)) t.fail(`${name}: ${(error as Error).stack}`, { bytes: bytes.toString('hex') })
        }
      }
    }
    t.ok(outcomes.read > 100 && outcomes.refused > 100, JSON.stringify(outcomes))
  })
}

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1')
const read = (text: string): unknown => describe(readPickle(latin1(text)))
const uint32 = (value: number): string => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes.toString('latin1')
}
const uint64 = (value: bigint): string => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return bytes.toString('latin1')
}

function refuses(t: Test, name: string, text: string, why?: RegExp): void {
  t.throws(() => readPickle(latin1(text)), why === undefined ? PickleRefused : { name: 'PickleRefused', message: why }, name)
}

t.test('what Python 2 wrote', async t => {
  t.same(read("(dp0\nS'user_id'\np1\nI42\nsS'account_id'\np2\nS'acme'\np3\ns."), { dict: [['user_id', { int: '42' }], ['account_id', 'acme']] })
  t.same(read("}q\x00(U\x07user_idq\x01K*U\naccount_idq\x02U\x04acmeq\x03u."), { dict: [['user_id', { int: '42' }], ['account_id', 'acme']] })
  t.same(read("\x80\x02}q\x00(U\x07user_idq\x01L42L\nU\naccount_idq\x02T\x04\x00\x00\x00acmeq\x03u."), { dict: [['user_id', { int: '42' }], ['account_id', 'acme']] })
  t.same(read(String.raw`S'it\'s \\ \n \x41 "'` + '\n.'), 'it\'s \\ \n A "')
  t.same(read(String.raw`S"it's"` + '\n.'), "it's")
  t.same(read(String.raw`S'\xc3\xbc'` + '\n.'), 'ü')
  for (const bad of ["S'open\n.", 'Sbare\n.', `S'a'b'\n.`, `S'a\\'\n.`, String.raw`S'\q'` + '\n.', String.raw`S'\xff'` + '\n.', String.raw`S'\x4'` + '\n.']) refuses(t, JSON.stringify(bad), bad)
})

t.test('every opcode that names, calls or builds something is refused, wherever it stands', async t => {
  const naming = {
    GLOBAL: 'cos\nsystem\n', REDUCE: 'R', BUILD: 'b', INST: '(ios\nsystem\n', OBJ: 'o', NEWOBJ: '\x81', NEWOBJ_EX: '\x92',
    EXT1: '\x82\x01', EXT2: '\x83\x01\x00', EXT4: '\x84\x01\x00\x00\x00', PERSID: 'P1\n', BINPERSID: 'Q', STACK_GLOBAL: '\x93',
    NEXT_BUFFER: '\x97', READONLY_BUFFER: '\x98', POP: '0', POP_MARK: '1', DUP: '2'
  }
  for (const [name, opcode] of Object.entries(naming)) {
    refuses(t, name, `${opcode}.`, /is for more than plain data/)
    refuses(t, `${name} in a dict`, `\x80\x04}(X\x01\x00\x00\x00aX\x02\x00\x00\x00os${opcode}u.`, /is for more than plain data/)
  }
  refuses(t, 'the usual exploit', "cos\nsystem\n(S'id'\ntR.")
  refuses(t, 'the same by text from the stack', '\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.')
  const known = '(.NIJKLMFGSTUVXBC)]}tldaesuphgqrj\x80\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x94\x95\x96'
  for (let code = 0; code < 256; code++) {
    const character = String.fromCharCode(code)
    if (!known.includes(character)) refuses(t, `opcode ${code}`, `${character}.`, /is for more than plain data/)
  }
})

t.test('tricks with the memo', async t => {
  refuses(t, 'a list that holds itself', ']q\x00h\x00a.', /two places/)
  refuses(t, 'a dict that holds itself', '}q\x00X\x01\x00\x00\x00ah\x00s.', /two places/)
  refuses(t, 'a tuple in two places', '(K\x01tq\x00h\x00\x86.', /two places/)
  refuses(t, 'doubled again and again', `](K\x01K\x02eq\x00${Array.from({ length: 60 }, (_, n) => `]q${String.fromCharCode(n + 1)}(h${String.fromCharCode(n)}h${String.fromCharCode(n)}e`).join('')}.`)
  refuses(t, 'an entry that is not there', 'h\x07.', /missing/)
  refuses(t, 'of a mark', '(q\x00.', /missing/)
  refuses(t, 'of nothing', 'q\x00.', /missing/)
  refuses(t, 'a negative index', 'Np-1\n.')
  refuses(t, 'an index that is no number', 'Np1e3\n.')
  refuses(t, 'an index of a million digits', `Np${'9'.repeat(1_000_000)}\n.`)
  t.same(read('Nr\xff\xff\xff\xff0'.slice(0, -1) + '.'), null, 'an index of 2^32 - 1 takes no room')
  t.same(read('](X\x01\x00\x00\x00aq\x05h\x05g5\nj\x05\x00\x00\x00e.'), { list: ['a', 'a', 'a', 'a'] }, 'a text may be there often')
  const long = 10_000
  refuses(t, 'a long text again and again', `](X${uint32(long)}${'x'.repeat(long)}q\x00${'h\x00'.repeat(PICKLE_CHARACTERS_MAX / long + 1)}e.`, /characters/)
  refuses(t, 'bytes again and again', `](B${uint32(long)}${'x'.repeat(long)}q\x00${'h\x00'.repeat(PICKLE_CHARACTERS_MAX / long + 1)}e.`, /characters/)
})

t.test('lengths that are not there are refused before anything is set aside for them', async t => {
  for (const opcode of ['X', 'T', 'B', '\x8b']) refuses(t, JSON.stringify(opcode), `${opcode}\xff\xff\xff\x7fabc.`)
  for (const opcode of ['\x8d', '\x8e', '\x96']) {
    refuses(t, JSON.stringify(opcode), `${opcode}${uint64(2n ** 40n)}abc.`)
    refuses(t, `${JSON.stringify(opcode)}, 2^64 - 1`, `${opcode}${uint64(2n ** 64n - 1n)}abc.`)
  }
  refuses(t, 'a huge integer', `\x8b${uint32(1_000_000)}${'\x01'.repeat(1_000_000)}.`, /too large/)
  refuses(t, 'a huge integer in digits', `L${'9'.repeat(1_000_000)}L\n.`, /too large/)
  refuses(t, 'the same with INT', `I${'9'.repeat(1_000_000)}\n.`, /too large/)
  t.same(read(`\x8b${uint32(PICKLE_INTEGER_MAX_BYTES)}${'\xff'.repeat(PICKLE_INTEGER_MAX_BYTES)}.`), { int: '-1' }, 'as many bytes as may be')
  for (const bad of ['I1_000\n.', 'I 1\n.', 'I0x10\n.', 'I\n.', 'I1', 'L\n.', 'F1_0\n.', 'F\n.', 'FInfinity\n.', 'F0x1p3\n.']) refuses(t, JSON.stringify(bad), bad)
})

t.test('tricks with frames and protocols', async t => {
  t.same(read(`\x80\x04\x95${uint64(2n)}N.`), null)
  t.same(read(`\x80\x04\x95${uint64(0n)}N.`), null, 'an empty frame')
  refuses(t, 'a frame that is longer than what is there', `\x80\x04\x95${uint64(3n)}N.`, /frame/)
  refuses(t, 'a frame of 2^64 - 1', `\x80\x04\x95${uint64(2n ** 64n - 1n)}N.`)
  refuses(t, 'a frame in a frame', `\x80\x04\x95${uint64(12n)}\x95${uint64(1n)}NN.`, /frame/)
  refuses(t, 'a text that reaches over the end of its frame', `\x80\x04\x95${uint64(4n)}\x8c\x04abcd.`, /cut off/)
  refuses(t, 'a line that does', `\x80\x04\x95${uint64(2n)}I12\n.`, /cut off/)
  refuses(t, 'protocol 6', '\x80\x06N.', /protocol/)
  refuses(t, 'a protocol in the middle', 'N\x80\x02.', /protocol/)
  refuses(t, 'a protocol twice', '\x80\x02\x80\x02N.', /protocol/)
})

t.test('a stack that does not fit', async t => {
  const bad = {
    'nothing': '', 'only an end': '.', 'two values': 'NN.', 'a mark is left': '(N.', 'a mark is all': '(.', 'no end': 'N',
    'TUPLE without mark': 'Nt.', 'TUPLE2 of one': 'N\x86.', 'TUPLE1 of a mark': '(\x85.', 'LIST without mark': 'l.', 'APPEND to nothing': 'Na.',
    'APPEND to a number': 'K\x01K\x02a.', 'APPEND to a tuple': ')K\x01a.', 'APPEND to a dict': '}K\x01a.', 'APPENDS over the mark': '](K\x01(e.',
    'SETITEM of one': '}K\x01s.', 'SETITEMS of three': '}(K\x01K\x02K\x03u.', 'SETITEM on a list': ']K\x01K\x02s.', 'SETITEMS on a mark': '((K\x01K\x02u.',
    'ADDITEMS to a list': '](K\x01\x90.', 'ADDITEMS to a frozenset': '(\x91(K\x01\x90.', 'DICT of one': '(K\x01d.',
    'a list as key': '}]K\x01s.', 'bytes as key': '}C\x01aK\x01s.', 'a set of lists': '\x8f(]\x90.', 'text that is no UTF-8': 'X\x01\x00\x00\x00\xff.',
    'a code point beyond Unicode': 'V\\U00110000\n.', 'a lone surrogate': 'V\\ud800\n.'
  }
  for (const [name, text] of Object.entries(bad)) refuses(t, name, text)
})

t.test('nesting and count have a bound, and what is at it is read', async t => {
  t.ok(readPickle(latin1(`${']'.repeat(PICKLE_DEPTH_MAX)}${'a'.repeat(PICKLE_DEPTH_MAX - 1)}.`)))
  refuses(t, 'lists one deeper', `${']'.repeat(PICKLE_DEPTH_MAX + 1)}${'a'.repeat(PICKLE_DEPTH_MAX)}.`, /deeper/)
  refuses(t, 'tuples', `N${'\x85'.repeat(10_000)}.`, /deeper/)
  refuses(t, 'marks', `${'('.repeat(10_000)}${'t'.repeat(10_000)}.`, /deeper/)
  refuses(t, 'dicts', `${'}N'.repeat(5_000)}N${'s'.repeat(5_000)}.`, /deeper/)
  t.ok(readPickle(latin1(`](${'N'.repeat(PICKLE_OPCODES_MAX - 4)}e.`)))
  refuses(t, 'opcodes', `](${'N'.repeat(PICKLE_OPCODES_MAX - 3)}e.`, /opcodes/)
})

t.test('keys named after parts of objects are only keys', async t => {
  const value = readPickle(latin1('}(X\x09\x00\x00\x00__proto__}X\x0b\x00\x00\x00constructorK\x01u.')) as Map<string, unknown>
  t.same([...value.keys()], ['__proto__', 'constructor'])
  t.equal(Object.getPrototypeOf({}), Object.prototype)
})

t.test('a refusal does not say what was in the pickle', async t => {
  for (const text of ['X\x06\x00\x00\x00secretcos\nsecret\n.', "S'secret\n.", 'Isecret\n.']) {
    try {
      readPickle(latin1(text))
      t.fail('it was read')
    } catch (error) {
      t.notMatch((error as Error).message, /secret/)
    }
  }
})
