/** What signatures are trusted by: SIGNING_TRUST_BUNDLE, read once at start. */
import { createHash, createPublicKey, X509Certificate, type KeyObject } from 'node:crypto'
import { certificateLimits } from './certificate-der.ts'
import { keyProblem } from './key-strength.ts'

export interface TrustBundle {
  /** Bare Ed25519 public keys: for signatures of algorithm `ed25519`. */
  readonly keys: readonly KeyObject[]
  /** Authorities or signers: for signatures of algorithm `x509`. */
  readonly certificates: readonly X509Certificate[]
}

export interface PemBlock { label: string, pem: string }

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----\r?\n[A-Za-z0-9+/=\s]*?-----END \1-----/g

/**
 * Reads the trust bundle: PEM certificates and Ed25519 public keys in any order, with any text between them.
 * Throws an Error that names the entry and what is wrong with it; an entry that could never verify anything, and a
 * bundle without entries, are wrong too: nobody should learn of it by the first refused upload.
 */
export function loadTrustBundle(pem: string): TrustBundle {
  const keys: KeyObject[] = []
  const certificates: X509Certificate[] = []
  for (const [index, block] of pemBlocks(pem).entries()) {
    try {
      if (block.label === 'CERTIFICATE') certificates.push(trustedCertificate(block.pem))
      else keys.push(trustedKey(block))
    } catch (cause) {
      throw new Error(`trust bundle, entry ${index + 1} (${block.label}): ${(cause as Error).message}`, { cause })
    }
  }
  if (keys.length + certificates.length === 0) throw new Error('trust bundle: it holds no certificate and no public key')
  return { keys, certificates }
}

/** The PEM blocks of a text. Throws an Error where one is begun and not ended, or holds what is not base64. */
export function pemBlocks(text: string): PemBlock[] {
  const blocks = Array.from(text.matchAll(BLOCK), match => ({ label: match[1]!, pem: match[0] }))
  const begun = text.split('-----BEGIN ').length - 1
  if (begun !== blocks.length) throw new Error(`the PEM is damaged: ${begun} blocks begin, ${blocks.length} are whole`)
  return blocks
}

/** SHA-256 of a public key (its SPKI in DER), hex: names a signer whatever certificate carries the key. */
export function keyFingerprint(key: KeyObject): string {
  return createHash('sha256').update(key.export({ type: 'spki', format: 'der' })).digest('hex')
}

function trustedCertificate(pem: string): X509Certificate {
  const certificate = new X509Certificate(pem)
  const problem = keyProblem(certificate.publicKey)
  if (problem !== undefined) throw new Error(problem)
  certificateLimits(certificate.raw)
  return certificate
}

function trustedKey({ label, pem }: PemBlock): KeyObject {
  // createPublicKey() would quietly derive the public half: a private key has no business on this machine.
  if (label.endsWith('PRIVATE KEY')) throw new Error('this is a private key; only public keys and certificates belong here')
  if (label !== 'PUBLIC KEY') throw new Error('only CERTIFICATE and PUBLIC KEY are understood')
  const key = createPublicKey(pem)
  if (key.asymmetricKeyType !== 'ed25519') throw new Error(`a bare public key must be Ed25519, this is ${key.asymmetricKeyType}; other keys are trusted by certificate`)
  return key
}
