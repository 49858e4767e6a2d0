/**
 * Reads Python pickles (protocols 0 to 5) that hold plain data: dict, list, tuple, set, frozenset, str, bytes, bytearray,
 * int, float, bool, None. A pickle is a program for a stack machine, and most of what makes it dangerous is opcodes that
 * name something: a class, a function, an object kept elsewhere. These are not in the table below, and what is not in the
 * table is refused. There is nothing that could be called.
 *
 * The rest is bounds. Besides those of size, nesting and count: a memo entry may be used again where it is a scalar only.
 * So no container is in two places, which is how a short pickle becomes an endless or an exponential value. Python writes
 * such a pickle only where the same list or dict is in a value twice.
 *
 * Opcodes and their arguments: Lib/pickletools.py of CPython.
 */
import { PICKLE_CHARACTERS_MAX, PICKLE_DEPTH_MAX, PICKLE_INTEGER_MAX_BYTES, PICKLE_OPCODES_MAX } from '../limits.ts'

export type PickleScalar = null | boolean | number | bigint | string
/** A tuple is an array. Integers beyond 2^53 are bigint. */
export type PickleValue = PickleScalar | Uint8Array | PickleValue[] | Map<PickleScalar, PickleValue> | Set<PickleScalar>

/** The text says what is wrong with its form, never what it holds. */
export class PickleRefused extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(`this pickle is not read: ${message}`, options)
    this.name = 'PickleRefused'
  }
}

const PROTOCOL_MAX = 5
const INTEGER_MAX_DIGITS = Math.ceil(PICKLE_INTEGER_MAX_BYTES * Math.log10(256))
const STOP = '.'.charCodeAt(0)
const MARK = Symbol('mark')

interface Item {
  readonly value: PickleValue
  /** 0: a scalar. A container is one deeper than what is deepest in it. */
  depth: number
  /** True: a list, dict or set that may be given more. */
  readonly open: boolean
}

interface Machine {
  readonly input: Reader
  readonly stack: (Item | typeof MARK)[]
  readonly memo: Map<number, Item>
  /** Of all texts so far, each as often as it is used. */
  characters: number
}

/** @param bytes the caller bounds their number @throws PickleRefused */
export function readPickle(bytes: Uint8Array): PickleValue {
  const machine: Machine = { input: readerOf(bytes), stack: [], memo: new Map(), characters: 0 }
  for (let opcodes = 0; opcodes < PICKLE_OPCODES_MAX; opcodes++) {
    const code = machine.input.byte()
    if (code === STOP) return resultOf(machine)
    const run = OPCODES.get(code)
    if (run === undefined) throw new PickleRefused(`opcode 0x${code.toString(16).padStart(2, '0')} is for more than plain data, or is none`)
    run(machine)
  }
  throw new PickleRefused(`it has more than ${PICKLE_OPCODES_MAX} opcodes`)
}

function resultOf({ input, stack }: Machine): PickleValue {
  const [item, ...more] = stack
  if (!input.atEnd()) throw new PickleRefused('something follows its end')
  if (item === undefined || item === MARK || more.length > 0) throw new PickleRefused('it does not end with one value')
  return item.value
}

interface Reader {
  byte(): number
  /** @throws PickleRefused where there are not as many, in the frame or at all */
  take(length: number): Buffer
  /** Up to the next line feed, without it. */
  line(): string
  /** What follows is a frame of this length: nothing reaches over its end. */
  frame(length: number): void
  /** The opcode that was just read is the first. */
  atFirst(): boolean
  atEnd(): boolean
}

function readerOf(bytes: Uint8Array): Reader {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let position = 0
  let frameEnd: number | undefined
  const take = (length: number): Buffer => {
    const end = position + length
    if (end > (frameEnd ?? buffer.length)) throw new PickleRefused('it is cut off')
    const taken = buffer.subarray(position, end)
    position = end
    if (position === frameEnd) frameEnd = undefined
    return taken
  }
  return {
    take,
    byte: () => take(1)[0]!,
    line() {
      const end = buffer.indexOf('\n', position)
      if (end === -1) throw new PickleRefused('it is cut off')
      return take(end + 1 - position).toString('latin1').slice(0, -1)
    },
    frame(length) {
      if (frameEnd !== undefined || length > buffer.length - position) throw new PickleRefused('a frame does not fit')
      if (length > 0) frameEnd = position + length
    },
    atFirst: () => position === 1,
    atEnd: () => position === buffer.length
  }
}

/** A length of 1, 4 or 8 bytes. */
function lengthOf({ input }: Machine, bytes: 1 | 4 | 8): number {
  const length = bytes === 8 ? Number(input.take(8).readBigUInt64LE()) : input.take(bytes).readUIntLE(0, bytes)
  // what is longer than the pickle is refused by whoever takes it
  if (!Number.isSafeInteger(length)) throw new PickleRefused('it is cut off')
  return length
}

function push({ stack }: Machine, value: PickleValue, depth = 0, open = false): void {
  if (depth > PICKLE_DEPTH_MAX) throw new PickleRefused(`it is nested deeper than ${PICKLE_DEPTH_MAX}`)
  stack.push({ value, depth, open })
}

function pop({ stack }: Machine): Item {
  const item = stack.pop()
  if (item === undefined || item === MARK) throw new PickleRefused('a value is missing')
  return item
}

function popMany(machine: Machine, count: number): Item[] {
  return Array.from({ length: count }, () => pop(machine)).toReversed()
}

function popToMark({ stack }: Machine): Item[] {
  const mark = stack.lastIndexOf(MARK)
  if (mark === -1) throw new PickleRefused('a mark is missing')
  return stack.splice(mark).slice(1) as Item[]
}

function top({ stack }: Machine): Item {
  const item = stack.at(-1)
  if (item === undefined || item === MARK) throw new PickleRefused('a value is missing')
  return item
}

function pushText(machine: Machine, text: string): void {
  if (!text.isWellFormed()) throw new PickleRefused('a text is no Unicode')
  charge(machine, text)
  push(machine, text)
}

function pushBytes(machine: Machine, bytes: Buffer): void {
  charge(machine, bytes)
  push(machine, Uint8Array.from(bytes))
}

/** A text that the memo repeats costs what it would cost if it were there again. */
function charge(machine: Machine, value: PickleValue): void {
  machine.characters += typeof value === 'string' || value instanceof Uint8Array ? value.length : 0
  if (machine.characters > PICKLE_CHARACTERS_MAX) throw new PickleRefused(`its texts have more than ${PICKLE_CHARACTERS_MAX} characters`)
}

function utf8(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw new PickleRefused('a text is no UTF-8', { cause: error })
  }
}

/** Python's raw-unicode-escape: Latin-1, and \uXXXX or \UXXXXXXXX for everything else. */
function rawUnicode(line: string): string {
  return line.replaceAll(/\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g, (_match, short: string | undefined, long: string | undefined) => {
    const code = Number.parseInt(short ?? long!, 16)
    if (code > 0x10_ffff) throw new PickleRefused('a text is no Unicode')
    return String.fromCodePoint(code)
  })
}

/** What Python 2 wrote of a str: its repr, of which only the plain escapes are taken. */
function quoted(line: string): string {
  const inner = /^'((?:[^'\\]|\\.)*)'$|^"((?:[^"\\]|\\.)*)"$/.exec(line)
  if (inner === null) throw new PickleRefused('a text is not quoted')
  const bytes = (inner[1] ?? inner[2]!).replaceAll(/\\(x[0-9a-fA-F]{2}|[\s\S]?)/g, (_match, escape: string) => {
    if (escape.length === 3) return String.fromCharCode(Number.parseInt(escape.slice(1), 16))
    const plain = { 'n': '\n', 'r': '\r', 't': '\t', '\\': '\\', '"': '"', '\'': '\'' }[escape]
    if (plain === undefined) throw new PickleRefused('a text has an escape that is not read')
    return plain
  })
  return utf8(Buffer.from(bytes, 'latin1'))
}

function integer(text: string): number | bigint {
  if (!/^-?\d+$/.test(text) || text.length > INTEGER_MAX_DIGITS) throw new PickleRefused('an integer is none, or is too large')
  return numberOrBigint(BigInt(text))
}

/** Two's complement, the least byte first; no bytes are 0. */
function littleEndian(bytes: Buffer): number | bigint {
  if (bytes.length > PICKLE_INTEGER_MAX_BYTES) throw new PickleRefused('an integer is too large')
  if (bytes.length === 0) return 0
  return numberOrBigint(BigInt.asIntN(bytes.length * 8, BigInt(`0x${Buffer.from(bytes.toReversed()).toString('hex')}`)))
}

function numberOrBigint(value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}

function float(text: string): number {
  if (!/^-?(\d+(\.\d*)?([eE][+-]?\d+)?|inf|nan)$/.test(text) || text.length > INTEGER_MAX_DIGITS) throw new PickleRefused('a number is none')
  return Number(text.replace('inf', 'Infinity').replace('nan', 'NaN'))
}

function keyOf({ value }: Item): PickleScalar {
  if (value !== null && typeof value === 'object') throw new PickleRefused('a key is no text and no number')
  return value
}

/** Puts items into a container that is open, and deepens it by them. */
function fill<T extends PickleValue>(container: Item, items: readonly Item[], isOne: (value: PickleValue) => value is T, put: (into: T) => void): void {
  if (!container.open || !isOne(container.value)) throw new PickleRefused('something is put into a value that takes nothing')
  container.depth = Math.max(container.depth, depthOver(items))
  if (container.depth > PICKLE_DEPTH_MAX) throw new PickleRefused(`it is nested deeper than ${PICKLE_DEPTH_MAX}`)
  put(container.value)
}

function depthOver(items: readonly Item[]): number {
  return 1 + items.reduce((deepest, { depth }) => Math.max(deepest, depth), 0)
}

const isMap = (value: PickleValue) => value instanceof Map
const isSet = (value: PickleValue) => value instanceof Set

const valuesOf = (items: readonly Item[]): PickleValue[] => items.map(({ value }) => value)

function extend(list: Item, items: readonly Item[]): void {
  fill(list, items, Array.isArray, into => { for (const { value } of items) into.push(value) })
}

function setItems(dict: Item, items: readonly Item[]): void {
  if (items.length % 2 !== 0) throw new PickleRefused('a key has no value')
  fill(dict, items, isMap, into => { for (let n = 0; n < items.length; n += 2) into.set(keyOf(items[n]!), items[n + 1]!.value) })
}

function pushTuple(machine: Machine, items: readonly Item[]): void {
  push(machine, valuesOf(items), depthOver(items))
}

function pushFilled(machine: Machine, empty: PickleValue, items: readonly Item[], fillIt: (container: Item, items: readonly Item[]) => void): void {
  push(machine, empty, 1, true)
  fillIt(top(machine), items)
}

function remember(machine: Machine, index: number): void {
  machine.memo.set(index, top(machine))
}

function recall(machine: Machine, index: number): void {
  const item = machine.memo.get(index)
  if (item === undefined) throw new PickleRefused('a value is missing')
  if (item.depth > 0) throw new PickleRefused('a container is in two places')
  charge(machine, item.value)
  push(machine, item.value)
}

const memoIndex = ({ input }: Machine): number => {
  const line = input.line()
  if (!/^\d{1,10}$/.test(line)) throw new PickleRefused('a memo index is none')
  return Number(line)
}

const OPCODES = new Map<number, (machine: Machine) => void>(Object.entries({
  // PROTO, FRAME
  '\x80': m => { if (!m.input.atFirst() || m.input.byte() > PROTOCOL_MAX) throw new PickleRefused('its protocol is not known') },
  '\x95': m => m.input.frame(lengthOf(m, 8)),
  // MARK
  '(': m => { m.stack.push(MARK) },

  // NONE, NEWTRUE, NEWFALSE
  'N': m => push(m, null),
  '\x88': m => push(m, true),
  '\x89': m => push(m, false),
  // INT, BININT, BININT1, BININT2, LONG, LONG1, LONG4
  'I': m => {
    const line = m.input.line()
    push(m, line === '01' ? true : line === '00' ? false : integer(line))
  },
  'J': m => push(m, m.input.take(4).readInt32LE()),
  'K': m => push(m, m.input.byte()),
  'M': m => push(m, m.input.take(2).readUInt16LE()),
  'L': m => push(m, integer(m.input.line().replace(/L$/, ''))),
  '\x8a': m => push(m, littleEndian(m.input.take(lengthOf(m, 1)))),
  '\x8b': m => push(m, littleEndian(m.input.take(lengthOf(m, 4)))),
  // FLOAT, BINFLOAT
  'F': m => push(m, float(m.input.line())),
  'G': m => push(m, m.input.take(8).readDoubleBE()),

  // STRING, BINSTRING, SHORT_BINSTRING: str of Python 2
  'S': m => pushText(m, quoted(m.input.line())),
  'T': m => pushText(m, utf8(m.input.take(lengthOf(m, 4)))),
  'U': m => pushText(m, utf8(m.input.take(lengthOf(m, 1)))),
  // UNICODE, BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
  'V': m => pushText(m, rawUnicode(m.input.line())),
  'X': m => pushText(m, utf8(m.input.take(lengthOf(m, 4)))),
  '\x8c': m => pushText(m, utf8(m.input.take(lengthOf(m, 1)))),
  '\x8d': m => pushText(m, utf8(m.input.take(lengthOf(m, 8)))),
  // BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
  'B': m => pushBytes(m, m.input.take(lengthOf(m, 4))),
  'C': m => pushBytes(m, m.input.take(lengthOf(m, 1))),
  '\x8e': m => pushBytes(m, m.input.take(lengthOf(m, 8))),
  '\x96': m => pushBytes(m, m.input.take(lengthOf(m, 8))),

  // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
  ')': m => pushTuple(m, []),
  '\x85': m => pushTuple(m, popMany(m, 1)),
  '\x86': m => pushTuple(m, popMany(m, 2)),
  '\x87': m => pushTuple(m, popMany(m, 3)),
  't': m => pushTuple(m, popToMark(m)),
  // EMPTY_LIST, LIST, APPEND, APPENDS
  ']': m => push(m, [], 1, true),
  'l': m => pushFilled(m, [], popToMark(m), extend),
  'a': m => {
    const item = pop(m)
    extend(top(m), [item])
  },
  'e': m => {
    const items = popToMark(m)
    extend(top(m), items)
  },
  // EMPTY_DICT, DICT, SETITEM, SETITEMS
  '}': m => push(m, new Map(), 1, true),
  'd': m => pushFilled(m, new Map(), popToMark(m), setItems),
  's': m => {
    const items = popMany(m, 2)
    setItems(top(m), items)
  },
  'u': m => {
    const items = popToMark(m)
    setItems(top(m), items)
  },
  // EMPTY_SET, ADDITEMS, FROZENSET
  '\x8f': m => push(m, new Set(), 1, true),
  '\x90': m => {
    const items = popToMark(m)
    fill(top(m), items, isSet, into => { for (const item of items) into.add(keyOf(item)) })
  },
  '\x91': m => push(m, new Set(popToMark(m).map(keyOf)), 1),

  // PUT, BINPUT, LONG_BINPUT, MEMOIZE; GET, BINGET, LONG_BINGET
  'p': m => remember(m, memoIndex(m)),
  'q': m => remember(m, lengthOf(m, 1)),
  'r': m => remember(m, lengthOf(m, 4)),
  '\x94': m => remember(m, m.memo.size),
  'g': m => recall(m, memoIndex(m)),
  'h': m => recall(m, lengthOf(m, 1)),
  'j': m => recall(m, lengthOf(m, 4))
} satisfies Record<string, (machine: Machine) => void>).map(([character, run]) => [character.charCodeAt(0), run]))
