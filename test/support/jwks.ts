/**
 * A real issuer for tests: an HTTP server that publishes its keys (JWKS), signs tokens with them, and fails as it is told to.
 * Its address stays the same when it goes down and comes back.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { nowSeconds, signingKey, signToken, type Claims, type SignOptions, type SigningKey } from './sign-token.ts'

export const AUDIENCE = 'penstock'

export interface TestIssuer {
  /** the claim `iss` */
  url: string
  jwksUrl: string
  /** What makes a service trust it. */
  env: Record<string, string>
  /** Keys that are published; the first signs. */
  keys: SigningKey[]
  /** Requests for the keys so far. */
  fetches: number
  /** A token of alice of acme through the client app, good for ten minutes. Claims that are undefined are left out. */
  sign(claims?: Claims, options?: SignOptions & { key?: SigningKey }): Promise<string>
  /** A header with it. */
  bearer(claims?: Claims, options?: SignOptions & { key?: SigningKey }): Promise<{ authorization: string }>
  /** From now on a new key signs; those before are published no more, unless they are kept. */
  rotate(options?: { alg?: string, keep?: boolean }): Promise<SigningKey>
  /** Answers requests for the keys from now on; undefined: with the keys. */
  answer(how: Answer | undefined): void
  /** Stops listening and cuts off who is connected. */
  down(): Promise<void>
  up(): Promise<void>
}

type Answer = (response: ServerResponse, request: IncomingMessage) => void

/** Ends with the test. `alg`: RS256, PS256, ES256, ES384 or EdDSA. */
export async function startIssuer(t: Pick<Test, 'teardown'>, { alg = 'ES256' }: { alg?: string } = {}): Promise<TestIssuer> {
  const first = await signingKey(alg)
  let how: Answer | undefined
  const publish: Answer = response => {
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ keys: self.keys.map(({ jwk }) => jwk) }))
  }
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    if (request.url !== '/jwks.json') {
      response.writeHead(404).end()
      return
    }
    self.fetches += 1
    const answer = how ?? publish
    answer(response, request)
  }
  let server = await listen(handle, 0)
  const { port } = server.address() as AddressInfo
  const url = `http://127.0.0.1:${port}`
  t.teardown(() => end(server))

  const self: TestIssuer = {
    url, jwksUrl: `${url}/jwks.json`, keys: [first], fetches: 0,
    env: { OIDC_ISSUER: url, OIDC_JWKS_URL: `${url}/jwks.json`, OIDC_AUDIENCE: AUDIENCE },
    async sign(claims = {}, { key = self.keys[0]!, ...options } = {}) {
      const now = nowSeconds()
      return await signToken(key, { iss: url, aud: AUDIENCE, sub: 'alice', client_id: 'app', account_id: 'acme', iat: now, exp: now + 600, ...claims }, options)
    },
    bearer: async (claims, options) => ({ authorization: `Bearer ${await self.sign(claims, options)}` }),
    async rotate({ alg: next = alg, keep = false } = {}) {
      const key = await signingKey(next)
      self.keys = keep ? [key, ...self.keys] : [key]
      return key
    },
    answer(next) { how = next },
    down: () => end(server),
    async up() { server = await listen(handle, port) }
  }
  return self
}

async function listen(handle: (request: IncomingMessage, response: ServerResponse) => void, port: number): Promise<Server> {
  const server = createServer(handle).listen(port, '127.0.0.1')
  await once(server, 'listening')
  return server
}

async function end(server: Server): Promise<void> {
  if (!server.listening) return
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await closed
}
