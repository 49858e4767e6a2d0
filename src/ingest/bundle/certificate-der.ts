/**
 * What node:crypto does not tell of a certificate and a chain cannot be judged without: path length, key usage, which
 * extensions are critical, and the hash of an RSA-PSS signature (RFC 5280, 4.1 and 4.2; RFC 4055, 3.1).
 *
 *   Certificate := SEQ { tbs SEQ { … [3] { SEQ OF { OID, critical BOOLEAN?, OCTET STRING } } }, algorithm SEQ { OID, params? }, … }
 *
 * OpenSSL has parsed the certificate before (X509Certificate), so that this reader meets well-formed DER; it still
 * never reads outside its buffer, and what it cannot read throws.
 */
const SEQUENCE = 0x30
const BOOLEAN = 0x01
const INTEGER = 0x02
const BIT_STRING = 0x03
const OID = 0x06
const EXTENSIONS = 0xa3
const PSS_HASH = 0xa0

/** Extensions by their OID in hex DER (without tag and length). */
const BASIC_CONSTRAINTS = '551d13'
const KEY_USAGE = '551d0f'
/** Those that are understood, here or by OpenSSL, or that do not restrict signing: key ids, alternative names, policies, extended key usage. */
const UNDERSTOOD = [BASIC_CONSTRAINTS, KEY_USAGE, '551d0e', '551d23', '551d11', '551d12', '551d20', '551d25']
/** Name constraints are refused, critical or not: they restrict whom an authority may sign for, and are not evaluated here. */
const NAME_CONSTRAINTS = '551d1e'

export interface CertificateLimits {
  /** Authorities that may follow below this one; Infinity where nothing is said. */
  pathLength: number
  /** May sign data; true where nothing is said. */
  signsData: boolean
  /** There is an extension that must be obeyed and cannot be here. */
  unsupportedExtension: boolean
  /** OID of the hash of an RSA-PSS signature, as in PSS_HASHES; '' where it is the default (SHA-1) or another kind of signature. */
  pssHash: string
}

/** SHA-256, SHA-384 and SHA-512 in hex DER. */
export const PSS_HASHES = ['608648016503040201', '608648016503040202', '608648016503040203']

interface Node { tag: number, value: Buffer }

/** Reads the DER of a certificate. Throws an Error where it is not one. */
export function certificateLimits(der: Buffer): CertificateLimits {
  const [tbs, algorithm] = children(only(children(der), SEQUENCE).value)
  if (tbs === undefined || algorithm === undefined) throw new Error('not a certificate')
  const limits: CertificateLimits = { pathLength: Infinity, signsData: true, unsupportedExtension: false, pssHash: pssHash(algorithm) }
  const list = children(tbs.value).find(node => node.tag === EXTENSIONS)
  if (list === undefined) return limits
  for (const extension of children(only(children(list.value), SEQUENCE).value)) readExtension(extension, limits)
  return limits
}

function readExtension(extension: Node, limits: CertificateLimits): void {
  const fields = children(extension.value)
  const id = fields[0]?.value.toString('hex')
  const critical = fields[1]?.tag === BOOLEAN && fields[1].value[0] !== 0
  const content = fields.at(-1)!.value
  if (id === BASIC_CONSTRAINTS) {
    const length = children(only(children(content), SEQUENCE).value).find(node => node.tag === INTEGER)
    if (length !== undefined) limits.pathLength = length.value.readUIntBE(0, Math.min(length.value.length, 6))
  }
  if (id === KEY_USAGE) {
    // First byte: unused bits. Then digitalSignature is the highest bit, contentCommitment the next (RFC 5280, 4.2.1.3).
    limits.signsData = ((only(children(content), BIT_STRING).value[1] ?? 0) & 0xc0) !== 0
  }
  if (id === NAME_CONSTRAINTS || (critical && !UNDERSTOOD.includes(id ?? ''))) limits.unsupportedExtension = true
}

/** RSASSA-PSS-params := SEQ { [0] { SEQ { OID hash } }, … } */
function pssHash(algorithm: Node): string {
  const params = children(algorithm.value)[1]
  if (params?.tag !== SEQUENCE) return ''
  const hash = children(params.value).find(node => node.tag === PSS_HASH)
  return hash === undefined ? '' : only(children(only(children(hash.value), SEQUENCE).value), OID).value.toString('hex')
}

function only(nodes: Node[], tag: number): Node {
  const node = nodes[0]
  if (node?.tag !== tag) throw new Error('unexpected DER')
  return node
}

/** The values in a DER encoding, one after another. */
function children(der: Buffer): Node[] {
  const nodes: Node[] = []
  for (let at = 0; at < der.length;) {
    const tag = der[at]!
    const first = der[at + 1] ?? 0x80
    const more = first < 0x80 ? 0 : first - 0x80
    if (first === 0x80 || more > 4 || at + 2 + more > der.length) throw new Error('unexpected DER')
    const start = at + 2 + more
    const end = start + (more === 0 ? first : der.readUIntBE(at + 2, more))
    if (end > der.length) throw new Error('unexpected DER')
    nodes.push({ tag, value: der.subarray(start, end) })
    at = end
  }
  return nodes
}
