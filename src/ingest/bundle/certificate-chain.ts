/**
 * Follows a signer's certificates up to one that is trusted (RFC 5280, section 6, as far as node:crypto reaches):
 *
 *   signer ◀─issued─ authority ◀─issued─ … ◀─issued─ trusted certificate      (or any of them is itself trusted)
 *
 * Each certificate on the way must be in date, have an accepted key, and obey its own limits; each issuer must be an
 * authority (basicConstraints; keyCertSign where key usage is given, which checkIssued() looks at), allow as many
 * authorities below it as there are, and its key must have made the signature, with SHA-2 or Ed25519.
 * Not evaluated: revocation, and policies. Certificates with name constraints, or with a critical extension that is not
 * understood, are refused.
 */
import { X509Certificate } from 'node:crypto'
import { PenstockError } from '../../errors.ts'
import { CERTIFICATE_CHAIN_MAX } from '../../limits.ts'
import { certificateLimits, PSS_HASHES, type CertificateLimits } from './certificate-der.ts'
import { keyProblem } from './key-strength.ts'
import { pemBlocks, type TrustBundle } from './trust-bundle.ts'

/** Code signing, any purpose (RFC 5280, 4.2.1.12). A certificate that lists purposes must list one of them. */
const SIGNING_PURPOSES = ['1.3.6.1.5.5.7.3.3', '2.5.29.37.0']
/** Certificate signatures: RSA and ECDSA with SHA-256, 384 and 512, and Ed25519. RSA-PSS says its hash elsewhere. */
const SIGNATURE_OIDS = [
  '1.2.840.113549.1.1.11', '1.2.840.113549.1.1.12', '1.2.840.113549.1.1.13',
  '1.2.840.10045.4.3.2', '1.2.840.10045.4.3.3', '1.2.840.10045.4.3.4',
  '1.3.101.112'
]
const RSA_PSS_OID = '1.2.840.113549.1.1.10'

/** SIGNATURE_INVALID with a slug of why in `details.reason`. */
export function signatureInvalid(reason: string, message: string, cause?: unknown): PenstockError {
  return new PenstockError('SIGNATURE_INVALID', { message: `the signature could not be verified: ${message}`, details: { reason }, cause })
}

/** The signer's certificate, first of the PEM chain, when the chain leads to a trusted certificate. Else throws SIGNATURE_INVALID. */
export function trustedSigner(trust: TrustBundle, pem: string, now: Date): X509Certificate {
  const chain = readChain(pem)
  const signer = chain[0]!
  if (!limitsOf(signer).signsData) throw signatureInvalid('certificate_purpose', "the signer's certificate may not sign data")
  for (const [depth, certificate] of chain.entries()) {
    const problem = problemOf(certificate, now)
    if (problem !== undefined) throw problem
    const below = chain[depth - 1]
    if (below !== undefined && !hasIssued(certificate, below, depth - 1)) {
      throw signatureInvalid('chain_broken', `certificate ${depth + 1} of the chain did not issue the one before it`)
    }
    if (isTrusted(trust, certificate, depth, now)) return signer
  }
  throw signatureInvalid('chain_untrusted', 'the certificate chain does not lead to a trusted certificate')
}

function readChain(pem: string): X509Certificate[] {
  let chain: X509Certificate[]
  try {
    chain = pemBlocks(pem).map(block => {
      if (block.label !== 'CERTIFICATE') throw new Error(`${block.label} is not a certificate`)
      return new X509Certificate(block.pem)
    })
  } catch (cause) {
    throw signatureInvalid('certificate_unreadable', 'signature.certificate must hold PEM certificates, the signer first', cause)
  }
  if (chain.length === 0) throw signatureInvalid('certificate_missing', 'x509 needs the chain of the signer in signature.certificate (PEM, the signer first)')
  if (chain.length > CERTIFICATE_CHAIN_MAX) throw signatureInvalid('chain_too_long', `the certificate chain is longer than ${CERTIFICATE_CHAIN_MAX}`)
  return chain
}

/** The certificate itself is trusted, or one that is trusted issued it. A bundle may hold an authority in an old and a new edition. */
function isTrusted(trust: TrustBundle, certificate: X509Certificate, depth: number, now: Date): boolean {
  if (trust.certificates.some(trusted => trusted.raw.equals(certificate.raw))) return true
  const issuers = trust.certificates.filter(trusted => hasIssued(trusted, certificate, depth))
  const problems = issuers.map(issuer => problemOf(issuer, now))
  if (problems.includes(undefined)) return true
  if (problems[0] !== undefined) throw problems[0]
  return false
}

/** `authorities`: how many of them lie between the issuer and the signer. */
function hasIssued(issuer: X509Certificate, certificate: X509Certificate, authorities: number): boolean {
  return issuer.ca && certificate.checkIssued(issuer) && signedWithStrongHash(certificate) &&
    limitsOf(issuer).pathLength >= authorities && certificate.verify(issuer.publicKey)
}

function signedWithStrongHash(certificate: X509Certificate): boolean {
  if (certificate.signatureAlgorithmOid === RSA_PSS_OID) return PSS_HASHES.includes(limitsOf(certificate).pssHash)
  return SIGNATURE_OIDS.includes(certificate.signatureAlgorithmOid)
}

/** Why this certificate may not be part of the way, or undefined where it may. */
function problemOf(certificate: X509Certificate, now: Date): PenstockError | undefined {
  if (now < certificate.validFromDate || now > certificate.validToDate) {
    return signatureInvalid('certificate_out_of_date', 'a certificate of the chain is not valid at this time')
  }
  const weakness = keyProblem(certificate.publicKey)
  if (weakness !== undefined) return signatureInvalid('key_weak', weakness)
  if (limitsOf(certificate).unsupportedExtension) {
    return signatureInvalid('certificate_extension', 'a certificate of the chain has a constraint that cannot be checked here')
  }
  // What node calls keyUsage is the extended one: undefined without the extension, whatever its type says.
  const purposes = certificate.keyUsage as string[] | undefined
  if (purposes !== undefined && !purposes.some(oid => SIGNING_PURPOSES.includes(oid))) {
    return signatureInvalid('certificate_purpose', 'a certificate of the chain is for other purposes than signing code')
  }
  return undefined
}

function limitsOf(certificate: X509Certificate): CertificateLimits {
  try {
    return certificateLimits(certificate.raw)
  } catch (cause) {
    throw signatureInvalid('certificate_unreadable', 'a certificate of the chain is not well-formed', cause)
  }
}
