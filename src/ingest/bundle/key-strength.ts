import type { KeyObject } from 'node:crypto'

const RSA_MIN_BITS = 2048
/** Beyond it a check costs seconds rather than microseconds. */
const RSA_MAX_BITS = 16_384
const CURVES = ['prime256v1', 'secp384r1', 'secp521r1']

/** Why this public key cannot be relied upon, or undefined where it can. */
export function keyProblem(key: KeyObject): string | undefined {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  if (type === 'ed25519') return undefined
  if (type === 'rsa' || type === 'rsa-pss') {
    const bits = details?.modulusLength ?? 0
    return bits >= RSA_MIN_BITS && bits <= RSA_MAX_BITS ? undefined : `an RSA key of ${bits} bits is not accepted: ${RSA_MIN_BITS} to ${RSA_MAX_BITS} are`
  }
  if (type === 'ec') {
    // A curve given by its numbers has no name, and could be anybody's (CVE-2020-0601).
    return CURVES.includes(details?.namedCurve ?? '') ? undefined : `an EC key on ${details?.namedCurve ?? 'an unnamed curve'} is not accepted: ${CURVES.join(', ')} are`
  }
  return `a key of type ${type} is not accepted: RSA, EC and Ed25519 are`
}
