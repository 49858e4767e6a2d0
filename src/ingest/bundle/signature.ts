/**
 * Signatures of bundles. What is signed is the content hash: its 64 hex characters in ASCII.
 *
 *   no trust bundle → not required, and nothing is claimed
 *   ed25519         → a bare Ed25519 key of the trust bundle made it
 *   x509            → the key of a certificate made it, whose chain leads to a certificate of the trust bundle
 *   cosign, pgp     → known by name, not verifiable here
 */
import { constants, verify, type KeyObject } from 'node:crypto'
import { PenstockError } from '../../errors.ts'
import { SIGNATURE_TEXT_MAX_BYTES } from '../../limits.ts'
import { signatureInvalid, trustedSigner } from './certificate-chain.ts'
import { keyFingerprint, type TrustBundle } from './trust-bundle.ts'

export { loadTrustBundle, type TrustBundle } from './trust-bundle.ts'

export interface SignatureInput {
  /** The signature in base64. */
  text?: string | undefined
  algorithm?: 'x509' | 'ed25519' | 'cosign' | 'pgp' | undefined
  /** x509: the signer's certificate and those that lead to a trusted one, PEM, in this order. */
  certificate?: string | undefined
}

export type SignatureResult =
  | { required: false, verified: false }
  /** `key`: SHA-256 of the public key (SPKI, DER) that made the signature, hex; `subject`: whose certificate, x509 only. */
  | { required: true, verified: true, algorithm: 'x509' | 'ed25519', key: string, subject?: string }

interface Signed { message: Buffer, signature: Buffer }
interface Signer { key: KeyObject, subject?: string }
/** Finds who made the signature, or throws SIGNATURE_INVALID. */
type Verifier = (trust: TrustBundle, signed: Signed, certificate: string, now: Date) => Signer

const verifiers: Record<'x509' | 'ed25519', Verifier> = { x509: verifyX509, ed25519: verifyEd25519 }
/** Strict: no white space inside, padding as RFC 4648 has it. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/**
 * Checks the signature of a content hash (64 lower-case hex characters) against the trust bundle, at the time `now`.
 * Throws SIGNATURE_REQUIRED where text or algorithm is missing, SIGNATURE_UNSUPPORTED for an algorithm that cannot be
 * checked, SIGNATURE_INVALID (`details.reason`) for everything that does not verify.
 */
export function checkSignature(trust: TrustBundle | undefined, sha256: string, signature: SignatureInput | undefined, now = new Date()): SignatureResult {
  if (trust === undefined) return { required: false, verified: false }
  const { text, algorithm, certificate } = signature ?? {}
  if (!text?.trim() || algorithm === undefined) {
    throw new PenstockError('SIGNATURE_REQUIRED', { message: 'a signature is required: signature.text and signature.algorithm' })
  }
  if (!isVerifiable(algorithm)) {
    throw new PenstockError('SIGNATURE_UNSUPPORTED', { details: { algorithm: String(algorithm).slice(0, 32), supported: Object.keys(verifiers) } })
  }
  const signed = { message: Buffer.from(sha256, 'ascii'), signature: decode(text.trim()) }
  const signer = verifiers[algorithm](trust, signed, bounded(certificate ?? '', 'signature.certificate'), now)
  const subject = signer.subject === undefined ? {} : { subject: signer.subject }
  return { required: true, verified: true, algorithm, key: keyFingerprint(signer.key), ...subject }
}

function isVerifiable(algorithm: string): algorithm is keyof typeof verifiers {
  return Object.hasOwn(verifiers, algorithm)
}

function decode(text: string): Buffer {
  const signature = Buffer.from(bounded(text, 'signature.text'), 'base64')
  if (!BASE64.test(text) || signature.toString('base64') !== text) throw signatureInvalid('text_not_base64', 'signature.text is not base64 on one line')
  return signature
}

function bounded(text: string, name: string): string {
  if (Buffer.byteLength(text) > SIGNATURE_TEXT_MAX_BYTES) throw signatureInvalid('too_large', `${name} is larger than ${SIGNATURE_TEXT_MAX_BYTES} bytes`)
  return text
}

function verifyEd25519(trust: TrustBundle, signed: Signed): Signer {
  const key = trust.keys.find(candidate => made(candidate, signed))
  if (key === undefined) throw signatureInvalid('signature_mismatch', 'no trusted Ed25519 key made this signature of the content hash')
  return { key }
}

function verifyX509(trust: TrustBundle, signed: Signed, certificate: string, now: Date): Signer {
  const { publicKey: key, subject } = trustedSigner(trust, certificate, now)
  if (!made(key, signed)) throw signatureInvalid('signature_mismatch', "the signer's key did not make this signature of the content hash")
  return { key, subject: subject.replaceAll('\n', ', ') }
}

/** Did this key make the signature? RSA in both paddings, with SHA-256; ECDSA with SHA-256 in DER; Ed25519. */
function made(key: KeyObject, { message, signature }: Signed): boolean {
  const pss = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_AUTO }
  switch (key.asymmetricKeyType) {
    case 'ed25519': return verify(null, message, key, signature)
    case 'ec': return verify('sha256', message, { key, dsaEncoding: 'der' }, signature)
    case 'rsa': return verify('sha256', message, { key, padding: constants.RSA_PKCS1_PADDING }, signature) || verify('sha256', message, pss, signature)
    case 'rsa-pss': return madeByRestrictedKey(message, pss, signature)
    default: return false
  }
}

/** A key that is restricted to another hash than SHA-256 makes verify() throw. */
function madeByRestrictedKey(message: Buffer, key: Parameters<typeof verify>[2], signature: Buffer): boolean {
  try {
    return verify('sha256', message, key, signature)
  } catch {
    return false
  }
}
