/** Makes tokens as an issuer or an attacker would: right ones by default, and wrong ones by what a test changes. */
import { generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { exportJWK, SignJWT, type JWK, type JWTHeaderParameters } from 'jose'

export interface SigningKey {
  kid: string
  alg: string
  privateKey: KeyObject
  publicKey: KeyObject
  /** as a JWKS lists it */
  jwk: JWK
}

/** A claim that is undefined is left out. Times are epoch seconds. */
export type Claims = Record<string, unknown>

export interface SignOptions {
  /** changes of the protected header; undefined takes a member away */
  header?: Record<string, unknown>
}

const generate = promisify(generateKeyPair) as unknown as (type: string, options: object) => Promise<Pick<SigningKey, 'privateKey' | 'publicKey'>>

const KEYS: Record<string, [type: string, options: object]> = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  ES384: ['ec', { namedCurve: 'P-384' }],
  EdDSA: ['ed25519', {}]
}

let drawn = 0

/** A fresh key pair for an asymmetric algorithm. */
export async function signingKey(alg = 'ES256', kid = `key-${++drawn}`): Promise<SigningKey> {
  const [type, options] = KEYS[alg]!
  const { privateKey, publicKey } = await generate(type, options)
  return { kid, alg, privateKey, publicKey, jwk: { ...await exportJWK(publicKey), kid, alg, use: 'sig' } }
}

export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000)
}

/** Signs exactly these claims. */
export async function signToken({ kid, alg, privateKey }: SigningKey, claims: Claims, { header = {} }: SignOptions = {}): Promise<string> {
  return await sign(claims, { alg, kid, typ: 'JWT', ...header }, privateKey)
}

/** Signs exactly these claims with a secret that both sides have. */
export async function signWithSecret(secret: string | Uint8Array, claims: Claims, { header = {} }: SignOptions = {}): Promise<string> {
  return await sign(claims, { alg: 'HS256', typ: 'JWT', ...header }, Buffer.from(secret))
}

async function sign(claims: Claims, header: Record<string, unknown>, key: KeyObject | Uint8Array): Promise<string> {
  return await new SignJWT(given(claims)).setProtectedHeader(given(header) as unknown as JWTHeaderParameters).sign(key)
}

/** Header and claims without a signature, or with one that is made up. */
export function unsignedToken(claims: Claims, { header = {}, signature = '' }: SignOptions & { signature?: string } = {}): string {
  const parts = [{ alg: 'none', typ: 'JWT', ...header }, claims].map(part => Buffer.from(JSON.stringify(given(part))).toString('base64url'))
  return `${parts.join('.')}.${signature}`
}

/** What a guest shows: `sub` and `account`, for ten minutes. */
export async function signGuest(secret: string, claims: Claims = {}): Promise<string> {
  const now = nowSeconds()
  return await signWithSecret(secret, { sub: 'guest-1', account: 'acme', iat: now, exp: now + 600, ...claims })
}

function given(members: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined))
}
