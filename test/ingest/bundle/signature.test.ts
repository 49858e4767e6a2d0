import { createHash, generateKeyPairSync } from 'node:crypto'
import t, { type Test } from 'tap'
import { checkSignature, loadTrustBundle, type SignatureInput } from '../../../src/ingest/bundle/signature.ts'
import { CERTIFICATE_CHAIN_MAX, SIGNATURE_TEXT_MAX_BYTES } from '../../../src/limits.ts'
import { makeCertificate, pemOf, signHash, type CertificateOptions, type KeyPair, type MadeCertificate } from '../../support/certificates.ts'

const sha256 = createHash('sha256').update('a bundle').digest('hex')
const otherHash = createHash('sha256').update('another bundle').digest('hex')
const CODE_SIGNING = '1.3.6.1.5.5.7.3.3'
const TLS_SERVER = '1.3.6.1.5.5.7.3.1'

const ed25519 = generateKeyPairSync('ed25519')
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const rootKeys = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const middleKeys = generateKeyPairSync('ec', { namedCurve: 'P-256' })

const root = makeCertificate({ subject: 'Root', keys: rootKeys, ca: true, keyUsage: [5, 6] })
const middle = makeCertificate({ subject: 'Middle', keys: middleKeys, issuer: root, ca: true, pathLength: 0, keyUsage: [5] })
const trust = loadTrustBundle(root.pem)

t.test('without a trust bundle nothing is required, and nothing is claimed, whatever was sent', async t => {
  const nothing = { required: false, verified: false } as const
  t.same(checkSignature(undefined, sha256, undefined), nothing)
  t.same(checkSignature(undefined, sha256, { text: signHash(sha256, ed25519.privateKey), algorithm: 'ed25519' }), nothing)
  t.same(checkSignature(undefined, sha256, { text: 'x', algorithm: 'pgp' }), nothing)
})

t.test('with one, a signature without text or algorithm is missing', async t => {
  for (const signature of [undefined, {}, { text: 'abcd' }, { algorithm: 'x509' }, { text: '  ', algorithm: 'x509' }] as const) {
    t.throws(() => checkSignature(trust, sha256, signature), { code: 'SIGNATURE_REQUIRED' })
  }
})

t.test('what cannot be checked is unsupported, never verified', async t => {
  for (const algorithm of ['cosign', 'pgp', 'toString', '__proto__']) {
    t.throws(() => checkSignature(trust, sha256, { text: 'abcd', algorithm } as SignatureInput), { code: 'SIGNATURE_UNSUPPORTED', details: { algorithm } })
  }
})

t.test('an Ed25519 signature is verified by whichever trusted key made it', async t => {
  const other = generateKeyPairSync('ed25519')
  const both = loadTrustBundle(pemOf(other.publicKey) + pemOf(ed25519.publicKey))
  const result = checkSignature(both, sha256, { text: `${signHash(sha256, ed25519.privateKey)}\n`, algorithm: 'ed25519' })
  const key = createHash('sha256').update(ed25519.publicKey.export({ type: 'spki', format: 'der' })).digest('hex')
  t.same(result, { required: true, verified: true, algorithm: 'ed25519', key })
})

t.test('an Ed25519 signature of another hash, by another key, or changed is refused', async t => {
  const keyed = loadTrustBundle(pemOf(ed25519.publicKey))
  const good = signHash(sha256, ed25519.privateKey)
  const wrong = {
    'another hash': signHash(otherHash, ed25519.privateKey),
    'another key': signHash(sha256, generateKeyPairSync('ed25519').privateKey),
    'upper-case hash': signHash(sha256.toUpperCase(), ed25519.privateKey),
    'cut': good.slice(0, 40),
    'zeros': Buffer.alloc(64).toString('base64')
  }
  for (const [name, text] of Object.entries(wrong)) {
    t.throws(() => checkSignature(keyed, sha256, { text, algorithm: 'ed25519' }), { code: 'SIGNATURE_INVALID', details: { reason: 'signature_mismatch' } }, name)
  }
  t.throws(() => checkSignature(trust, sha256, { text: good, algorithm: 'ed25519' }), { code: 'SIGNATURE_INVALID', details: { reason: 'signature_mismatch' } }, 'a trust bundle without bare keys')
})

t.test('text that is not strict base64 is refused', async t => {
  const keyed = loadTrustBundle(pemOf(ed25519.publicKey))
  const good = signHash(sha256, ed25519.privateKey)
  for (const text of [`${good.slice(0, 20)}\n${good.slice(20)}`, good.replaceAll('=', ''), `${good}!`, good.replace('==', '==='), Buffer.from(good, 'base64').toString('hex').slice(1), `${good.slice(0, -3)}${good.at(-3) === 'Z' ? 'Y' : 'Z'}==`]) {
    t.throws(() => checkSignature(keyed, sha256, { text, algorithm: 'ed25519' }), { code: 'SIGNATURE_INVALID', details: { reason: 'text_not_base64' } }, text)
  }
  t.throws(() => checkSignature(keyed, sha256, { text: 'A'.repeat(SIGNATURE_TEXT_MAX_BYTES + 4), algorithm: 'ed25519' }), { code: 'SIGNATURE_INVALID', details: { reason: 'too_large' } })
})

t.test('x509 verifies RSA in both paddings, ECDSA and Ed25519 through a chain to a trusted root', async t => {
  for (const [name, keys] of Object.entries({ rsa, ec, ed25519 })) {
    const signer = signerOf(middle, keys)
    const result = checkSignature(trust, sha256, signed(keys, signer, middle))
    const key = createHash('sha256').update(keys.publicKey.export({ type: 'spki', format: 'der' })).digest('hex')
    t.same(result, { required: true, verified: true, algorithm: 'x509', key, subject: 'CN=Signer' }, name)
  }
  const pss = { text: signHash(sha256, rsa.privateKey, { pss: true }), algorithm: 'x509', certificate: signerOf(middle, rsa).pem + middle.pem } as const
  t.equal(checkSignature(trust, sha256, pss).verified, true, 'RSA-PSS')
})

t.test('x509 verifies with an RSA-PSS key, and refuses one that is bound to another hash', async t => {
  const keys = generateKeyPairSync('rsa-pss', { modulusLength: 2048 })
  t.equal(checkSignature(trust, sha256, { ...signed(keys, signerOf(root, keys)), text: signHash(sha256, keys.privateKey, { pss: true }) }).verified, true)
  const bound = generateKeyPairSync('rsa-pss', { modulusLength: 2048, hashAlgorithm: 'sha512', mgf1HashAlgorithm: 'sha512' })
  refused(t, 'signature_mismatch', { ...signed(ec, signerOf(root, bound)) }, trust)
})

t.test('the chain may end at any trusted certificate, the signer itself included', async t => {
  const signer = signerOf(middle, ec)
  t.equal(checkSignature(loadTrustBundle(signer.pem), sha256, signed(ec, signer)).verified, true, 'the signer is trusted')
  t.equal(checkSignature(loadTrustBundle(middle.pem), sha256, signed(ec, signer)).verified, true, 'its issuer is trusted')
  t.equal(checkSignature(loadTrustBundle(middle.pem), sha256, signed(ec, signer, middle, root)).verified, true, 'and what follows does not matter')
  t.equal(checkSignature(trust, sha256, signed(ec, signer, middle, root)).verified, true, 'the root may be sent along')
})

t.test('a good chain does not help a wrong signature', async t => {
  const signer = signerOf(middle, ec)
  refused(t, 'signature_mismatch', { ...signed(ec, signer, middle), text: signHash(otherHash, ec.privateKey) })
  refused(t, 'signature_mismatch', { ...signed(ec, signer, middle), text: signHash(sha256, rsa.privateKey) })
  refused(t, 'signature_mismatch', { ...signed(ec, signer, middle), text: 'AAAA' })
})

t.test('a chain that does not lead to a trusted certificate is refused', async t => {
  const signer = signerOf(middle, ec)
  const falseRoot = makeCertificate({ subject: 'Root', keys: generateKeyPairSync('ec', { namedCurve: 'P-384' }), ca: true })
  refused(t, 'chain_untrusted', signed(ec, signer))
  refused(t, 'chain_untrusted', signed(ec, makeCertificate({ subject: 'Self', keys: ec })))
  refused(t, 'chain_untrusted', signed(ec, signerOf(falseRoot, ec), falseRoot), trust, 'a root of the same name')
  refused(t, 'chain_broken', signed(ec, signerOf(falseRoot, ec), root), trust, 'a signature by a root of the same name')
  refused(t, 'chain_broken', signed(ec, signer, root), trust, 'a link is missing')
  refused(t, 'chain_untrusted', signed(ec, signer), loadTrustBundle(pemOf(ed25519.publicKey)), 'no certificate is trusted')
})

t.test('the signer comes first, and only certificates count', async t => {
  const signer = signerOf(middle, ec)
  refused(t, 'certificate_purpose', signed(ec, middle, signer))
  refused(t, 'certificate_missing', { text: signHash(sha256, ec.privateKey), algorithm: 'x509' })
  refused(t, 'certificate_missing', { ...signed(ec, signer), certificate: 'no PEM at all' })
  refused(t, 'certificate_unreadable', { ...signed(ec, signer), certificate: signer.pem.slice(0, -20) })
  refused(t, 'certificate_unreadable', { ...signed(ec, signer), certificate: signer.pem.replace('\nMII', '\nMIJ') })
  refused(t, 'certificate_unreadable', { ...signed(ec, signer), certificate: signer.pem + pemOf(ec.publicKey) })
  refused(t, 'too_large', { ...signed(ec, signer), certificate: ' '.repeat(SIGNATURE_TEXT_MAX_BYTES + 1) })
  refused(t, 'chain_too_long', signed(ec, ...Array.from({ length: CERTIFICATE_CHAIN_MAX + 1 }, () => signer)))
})

t.test('every certificate on the way must be in date', async t => {
  const from = new Date('2024-01-01')
  const to = new Date('2025-01-01')
  const inside = new Date('2024-06-01')
  const outside = [new Date('2023-12-31T23:59:59Z'), new Date('2025-01-01T00:00:01Z')]
  const shortRoot = makeCertificate({ subject: 'Root', keys: rootKeys, ca: true, from, to })
  const shortMiddle = makeCertificate({ subject: 'Middle', keys: middleKeys, issuer: root, ca: true, from, to })
  const cases = {
    signer: [trust, signed(ec, signerOf(middle, ec, { from, to }), middle)],
    authority: [trust, signed(ec, signerOf(middle, ec), shortMiddle)],
    root: [loadTrustBundle(shortRoot.pem), signed(ec, signerOf(middle, ec), middle)],
    'trusted signer': [loadTrustBundle(signerOf(middle, ec, { from, to }).pem), undefined]
  } as const
  for (const [name, [bundle, signature]] of Object.entries(cases)) {
    const sent = signature ?? signed(ec, { subject: 'Signer', keys: ec, pem: bundle.certificates[0]!.toString() })
    t.equal(checkSignature(bundle, sha256, sent, inside).verified, true, `${name} in date`)
    for (const now of outside) refused(t, 'certificate_out_of_date', sent, bundle, `${name} at ${now.toISOString()}`, now)
  }
})

t.test('where a trusted authority was renewed, the edition that is in date counts', async t => {
  const old = makeCertificate({ subject: 'Root', keys: rootKeys, ca: true, to: new Date('2021-01-01') })
  for (const bundle of [old.pem + root.pem, root.pem + old.pem]) {
    t.equal(checkSignature(loadTrustBundle(bundle), sha256, signed(ec, signerOf(root, ec))).verified, true)
  }
})

t.test('an issuer must be an authority that may sign certificates, of the name that is given', async t => {
  const plain = makeCertificate({ subject: 'Middle', keys: middleKeys, issuer: root, ca: false })
  const silent = makeCertificate({ subject: 'Middle', keys: middleKeys, issuer: root })
  const forData = makeCertificate({ subject: 'Middle', keys: middleKeys, issuer: root, ca: true, keyUsage: [0] })
  const renamed = makeCertificate({ subject: 'Elsewhere', keys: middleKeys, issuer: root, ca: true })
  for (const issuer of [plain, silent, forData, renamed]) {
    refused(t, 'chain_broken', signed(ec, signerOf(middle, ec), issuer))
    refused(t, 'chain_untrusted', signed(ec, signerOf(middle, ec)), loadTrustBundle(issuer.pem), 'also where it is trusted')
  }
})

t.test('an authority allows no more authorities below it than it says', async t => {
  const lowerKeys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const lower = makeCertificate({ subject: 'Lower', keys: lowerKeys, issuer: middle, ca: true })
  const chain = [signerOf(lower, ec), lower] as const
  refused(t, 'chain_broken', signed(ec, ...chain, middle))
  refused(t, 'chain_untrusted', signed(ec, ...chain), loadTrustBundle(middle.pem))
  const wider = makeCertificate({ subject: 'Middle', keys: middleKeys, issuer: root, ca: true, pathLength: 1 })
  t.equal(checkSignature(trust, sha256, signed(ec, ...chain, wider)).verified, true)
})

t.test('the signer must be allowed to sign data and code', async t => {
  refused(t, 'certificate_purpose', signed(ec, signerOf(root, ec, { keyUsage: [2] })))
  refused(t, 'certificate_purpose', signed(ec, signerOf(root, ec, { purposes: [TLS_SERVER] })))
  const limited = makeCertificate({ subject: 'Middle', keys: middleKeys, issuer: root, ca: true, purposes: [TLS_SERVER] })
  refused(t, 'certificate_purpose', signed(ec, signerOf(limited, ec), limited), trust, 'an authority for other purposes')
  for (const options of [{ keyUsage: [0] }, { keyUsage: [1] }, { purposes: [CODE_SIGNING] }, { purposes: [TLS_SERVER, '2.5.29.37.0'] }]) {
    t.equal(checkSignature(trust, sha256, signed(ec, signerOf(root, ec, options))).verified, true, JSON.stringify(options))
  }
})

t.test('constraints that are not evaluated are refused', async t => {
  const value = Buffer.from('3000', 'hex')
  refused(t, 'certificate_extension', signed(ec, signerOf(root, ec, { extensions: [{ oid: '1.2.3.4', critical: true, value }] })))
  t.equal(checkSignature(trust, sha256, signed(ec, signerOf(root, ec, { extensions: [{ oid: '1.2.3.4', value }] }))).verified, true, 'not critical')
  const named = makeCertificate({ subject: 'Middle', keys: middleKeys, issuer: root, ca: true, extensions: [{ oid: '2.5.29.30', value: Buffer.from('3000', 'hex') }] })
  refused(t, 'certificate_extension', signed(ec, signerOf(named, ec), named), trust, 'name constraints')
})

t.test('weak keys are refused, in signers and authorities', async t => {
  const weak = { 'RSA 1024': generateKeyPairSync('rsa', { modulusLength: 1024 }), 'secp256k1': generateKeyPairSync('ec', { namedCurve: 'secp256k1' }), 'P-224': generateKeyPairSync('ec', { namedCurve: 'secp224r1' }), 'Ed448': generateKeyPairSync('ed448') }
  for (const [name, keys] of Object.entries(weak)) {
    const signer = makeCertificate({ subject: 'Signer', keys, issuer: root })
    refused(t, 'key_weak', { ...signed(ec, signer) }, trust, name)
    t.throws(() => loadTrustBundle(signer.pem), /entry 1 \(CERTIFICATE\): an? .*key.* is not accepted/, `${name} is not trusted either`)
  }
  const weakMiddle = makeCertificate({ subject: 'Middle', keys: weak['RSA 1024'], issuer: root, ca: true })
  refused(t, 'key_weak', signed(ec, signerOf(weakMiddle, ec), weakMiddle))
})

t.test('certificates signed with SHA-1 are refused, those with SHA-2 are not', async t => {
  const rsaRoot = makeCertificate({ subject: 'RSA root', keys: rsa, ca: true })
  const bundle = loadTrustBundle(rsaRoot.pem + root.pem)
  for (const options of [{}, { pss: true }]) {
    refused(t, 'chain_untrusted', signed(ec, signerOf(rsaRoot, ec, { ...options, hash: 'sha1' })), bundle, `RSA ${JSON.stringify(options)}`)
    for (const hash of ['sha256', 'sha384', 'sha512'] as const) t.equal(checkSignature(bundle, sha256, signed(ec, signerOf(rsaRoot, ec, { ...options, hash }))).verified, true, hash)
  }
  refused(t, 'chain_untrusted', signed(ec, signerOf(root, ec, { hash: 'sha1' })), bundle, 'ECDSA')
})

t.test('a trust bundle says what is wrong with it', async t => {
  t.throws(() => loadTrustBundle(''), /holds no certificate and no public key/)
  t.throws(() => loadTrustBundle('just text'), /holds no certificate/)
  t.throws(() => loadTrustBundle(root.pem + pemOf(ed25519.privateKey)), /entry 2 \(PRIVATE KEY\): this is a private key/)
  t.throws(() => loadTrustBundle(pemOf(rsa.publicKey)), /entry 1 \(PUBLIC KEY\): a bare public key must be Ed25519, this is rsa/)
  t.throws(() => loadTrustBundle(root.pem.replaceAll('CERTIFICATE', 'X509 CRL')), /only CERTIFICATE and PUBLIC KEY/)
  t.throws(() => loadTrustBundle(root.pem.slice(0, -10)), /1 blocks begin, 0 are whole/)
  t.throws(() => loadTrustBundle(root.pem.replace('\nMII', '\nMIJ')), /entry 1 \(CERTIFICATE\)/)
})

t.test('a trust bundle may hold several entries, text between them and line ends of any kind', async t => {
  const bundle = loadTrustBundle(`# ours\r\n${root.pem.replaceAll('\n', '\r\n')}\nsubject=CN Middle\n${middle.pem}${pemOf(ed25519.publicKey)}`)
  t.equal(bundle.certificates.length, 2)
  t.equal(bundle.keys.length, 1)
})

function signerOf(issuer: MadeCertificate, keys: KeyPair, options: Partial<CertificateOptions> = {}): MadeCertificate {
  return makeCertificate({ subject: 'Signer', keys, issuer, ...options })
}

/** The content hash signed by these keys, with this chain. */
function signed(keys: KeyPair, ...chain: MadeCertificate[]): SignatureInput {
  const padding = { pss: keys.privateKey.asymmetricKeyType === 'rsa-pss' }
  return { text: signHash(sha256, keys.privateKey, padding), algorithm: 'x509', certificate: chain.map(certificate => certificate.pem).join('') }
}

function refused(t: Test, reason: string, signature: SignatureInput, bundle = trust, name = reason, now?: Date): void {
  t.throws(() => checkSignature(bundle, sha256, signature, now), { code: 'SIGNATURE_INVALID', details: { reason } }, name)
}
