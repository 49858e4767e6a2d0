/**
 * Makes real X.509 certificates at run time, so that tests can have each kind of wrong one: expired, without CA, with a
 * weak key, with a SHA-1 signature. The DER is written by hand here; OpenSSL (node:crypto) reads it back when it is used.
 */
import { constants, createSign, randomBytes, sign, X509Certificate, type KeyObject } from 'node:crypto'

export interface KeyPair { publicKey: KeyObject, privateKey: KeyObject }

export interface CertificateOptions {
  /** Common name. */
  subject: string
  keys: KeyPair
  /** Without one it signs itself. */
  issuer?: { subject: string, keys: KeyPair }
  ca?: boolean
  pathLength?: number
  /** Names of bits: digitalSignature 0, contentCommitment 1, keyEncipherment 2, keyCertSign 5. Absent: no extension. */
  keyUsage?: number[]
  /** OIDs of extended key usage. Absent: no extension. */
  purposes?: string[]
  /** Further extensions. */
  extensions?: { oid: string, critical?: boolean, value: Buffer }[]
  from?: Date
  to?: Date
  /** Of the signature on it. */
  hash?: 'sha256' | 'sha384' | 'sha512' | 'sha1'
  pss?: boolean
}

export interface MadeCertificate { subject: string, keys: KeyPair, pem: string }

/** A certificate for these keys, signed by the issuer's. */
export function makeCertificate(options: CertificateOptions): MadeCertificate {
  const { subject, keys, issuer = { subject, keys } } = options
  const algorithm = signatureAlgorithm(issuer.keys.privateKey, options)
  const tbs = sequence(
    tagged(0xa0, integer(Buffer.from([2]))),
    integer(Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm,
    distinguishedName(issuer.subject),
    sequence(time(options.from ?? new Date('2020-01-01')), time(options.to ?? new Date('2120-01-01'))),
    distinguishedName(subject),
    keys.publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(...extensionsOf(options)))
  )
  const der = sequence(tbs, algorithm, bitString(signatureOf(tbs, issuer.keys.privateKey, options)))
  return { subject, keys, pem: new X509Certificate(der).toString() }
}

/** A signature of the content hash as a signer makes it, base64. */
export function signHash(sha256: string, key: KeyObject, options: { pss?: boolean } = {}): string {
  const message = Buffer.from(sha256, 'ascii')
  if (key.asymmetricKeyType === 'ed25519') return sign(null, message, key).toString('base64')
  const padding = options.pss === true ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } : {}
  return createSign('sha256').update(message).sign({ key, ...padding }).toString('base64')
}

function extensionsOf({ ca, pathLength, keyUsage, purposes, extensions = [] }: CertificateOptions): Buffer[] {
  const list: Buffer[] = []
  if (ca !== undefined) {
    const limits = [...ca ? [tagged(0x01, Buffer.from([0xff]))] : [], ...pathLength === undefined ? [] : [integer(Buffer.from([pathLength]))]]
    list.push(extension('2.5.29.19', sequence(...limits), true))
  }
  if (keyUsage !== undefined) {
    const bits = keyUsage.reduce((sum, bit) => sum | (0x80 >> bit), 0)
    list.push(extension('2.5.29.15', bitString(Buffer.from([bits])), true))
  }
  if (purposes !== undefined) list.push(extension('2.5.29.37', sequence(...purposes.map(objectId)), false))
  return [...list, ...extensions.map(({ oid, critical = false, value }) => extension(oid, value, critical))]
}

function extension(oid: string, value: Buffer, critical: boolean): Buffer {
  return sequence(objectId(oid), ...critical ? [tagged(0x01, Buffer.from([0xff]))] : [], tagged(0x04, value))
}

const SIGNATURE_OIDS: Record<string, string> = {
  'rsa-sha1': '1.2.840.113549.1.1.5', 'rsa-sha256': '1.2.840.113549.1.1.11', 'rsa-sha384': '1.2.840.113549.1.1.12', 'rsa-sha512': '1.2.840.113549.1.1.13',
  'ec-sha1': '1.2.840.10045.4.1', 'ec-sha256': '1.2.840.10045.4.3.2', 'ec-sha384': '1.2.840.10045.4.3.3', 'ec-sha512': '1.2.840.10045.4.3.4'
}
const HASH_OIDS: Record<string, string> = { sha1: '1.3.14.3.2.26', sha256: '2.16.840.1.101.3.4.2.1', sha384: '2.16.840.1.101.3.4.2.2', sha512: '2.16.840.1.101.3.4.2.3' }

function signatureAlgorithm(key: KeyObject, { hash = 'sha256', pss }: CertificateOptions): Buffer {
  if (key.asymmetricKeyType === 'ed25519') return sequence(objectId('1.3.101.112'))
  const hashId = sequence(objectId(HASH_OIDS[hash]!), tagged(0x05, Buffer.alloc(0)))
  if (pss === true) {
    const mask = sequence(objectId('1.2.840.113549.1.1.8'), hashId)
    return sequence(objectId('1.2.840.113549.1.1.10'), sequence(tagged(0xa0, hashId), tagged(0xa1, mask), tagged(0xa2, integer(Buffer.from([20])))))
  }
  const none = key.asymmetricKeyType === 'ec' ? [] : [tagged(0x05, Buffer.alloc(0))]
  return sequence(objectId(SIGNATURE_OIDS[`${key.asymmetricKeyType}-${hash}`]!), ...none)
}

function signatureOf(tbs: Buffer, key: KeyObject, { hash = 'sha256', pss }: CertificateOptions): Buffer {
  if (key.asymmetricKeyType === 'ed25519') return sign(null, tbs, key)
  return sign(hash, tbs, pss === true ? { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 20 } : key)
}

function distinguishedName(commonName: string): Buffer {
  return sequence(tagged(0x31, sequence(objectId('2.5.4.3'), tagged(0x0c, Buffer.from(commonName)))))
}

/** GeneralizedTime: any year. */
function time(date: Date): Buffer {
  return tagged(0x18, Buffer.from(date.toISOString().replaceAll(/[-:T]|\.\d+/g, '')))
}

function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  return tagged(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]))
}

function base128(arc: number): number[] {
  const digits = [arc & 0x7f]
  for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) digits.unshift(0x80 | (left & 0x7f))
  return digits
}

function integer(bytes: Buffer): Buffer {
  return tagged(0x02, bytes)
}

function bitString(bytes: Buffer): Buffer {
  return tagged(0x03, Buffer.concat([Buffer.from([0]), bytes]))
}

function sequence(...parts: Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts))
}

function tagged(tag: number, content: Buffer): Buffer {
  const size = content.length
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}

export function pemOf(key: KeyObject): string {
  return key.export({ type: key.type === 'public' ? 'spki' : 'pkcs8', format: 'pem' }).toString()
}
