/**
 * Protocol Buffers, the little of it that an ONNX file needs: fields are written in the order given, so that the same message
 * is always the same bytes.
 *
 *   field := tag (number << 3 | wire type) value      wire type 0: varint   2: length, bytes   5: 4 bytes
 */
export type Field = Uint8Array

const VARINT = 0
const LENGTH_DELIMITED = 2
const FIXED_32 = 5

/** Of a value from 0; int64 fields hold their two's complement. */
function varint(value: bigint): Uint8Array {
  const groups: number[] = []
  let rest = BigInt.asUintN(64, value)
  do {
    const more = rest > 0x7fn
    groups.push(Number(rest & 0x7fn) | (more ? 0x80 : 0))
    rest >>= 7n
  } while (rest > 0n)
  return Uint8Array.from(groups)
}

function tag(number: number, wireType: number): Uint8Array {
  return varint(BigInt(number << 3 | wireType))
}

export function integer(number: number, value: number | bigint): Field {
  return Buffer.concat([tag(number, VARINT), varint(BigInt(value))])
}

export function float(number: number, value: number): Field {
  const data = Buffer.alloc(4)
  data.writeFloatLE(value)
  return Buffer.concat([tag(number, FIXED_32), data])
}

export function bytes(number: number, value: Uint8Array): Field {
  return Buffer.concat([tag(number, LENGTH_DELIMITED), varint(BigInt(value.length)), value])
}

export function string(number: number, value: string): Field {
  return bytes(number, Buffer.from(value))
}

/** Fields of a message within another. */
export function message(number: number, fields: readonly Field[]): Field {
  return bytes(number, Buffer.concat(fields))
}
