/**
 * A file gateway and the token endpoint that it trusts, on real sockets. Both do as they should until a test says otherwise, and
 * note everything that they were sent.
 */
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'

type Answer = (response: ServerResponse, request: IncomingMessage) => void | Promise<void>

/** A PUT, from when its headers were there. */
export interface Put {
  key: string
  headers: IncomingMessage['headers']
  bytes: number
  /** of a body that came whole */
  sha256?: string
}

export interface TokenEndpoint {
  url: string
  /** Requests so far. */
  requests: { authorization: string | undefined, contentType: string | undefined, form: Record<string, string> }[]
  /** Good tokens so far. A test may take one away. */
  issued: Set<string>
  /** seconds; undefined: the answer says nothing of it */
  expiresIn: unknown
  /** For the next requests, one each; `undefined` is as it should be. */
  next(...answers: (Answer | undefined)[]): void
}

export interface TestGateway {
  url: string
  tokens: TokenEndpoint
  puts: Put[]
  /** What it has, by key. */
  files: Map<string, { sha256: string, size: number, contentType: string | undefined }>
  /** For the next PUTs, one each; `undefined` is as it should be. */
  next(...answers: (Answer | undefined)[]): void
  /** Requests with other methods so far. */
  probes: string[]
  /** Calls this with every PUT, once its headers are there. */
  onPut?: (put: Put) => void
  /** What makes a service use it. */
  env: Record<string, string>
  down(): Promise<void>
}

export const CLIENT_ID = 'penstock:one'
export const CLIENT_SECRET = 'a secret/of+its%own'
export const GATEWAY_AUDIENCE = 'file-gateway'

/** Says this and nothing else, at once, whatever was or was not read. */
export function says(status: number, body = '', headers: Record<string, string> = {}): Answer {
  return response => void response.writeHead(status, { connection: 'close', ...headers }).end(body)
}

/** Neither reads nor answers. */
export const hangs: Answer = () => {}

/** Closes at once. */
export const closes: Answer = response => void response.destroy()

/** Answers and closes with the body unread, as a server does that does not care for its clients. */
export function saysAndCloses(status: number): Answer {
  return response => {
    const { socket } = response
    response.writeHead(status, { connection: 'close', 'content-length': 0 }).end(() => socket?.destroy())
  }
}

/** Reads so much, and closes in the middle. */
export function closesAfter(bytes: number): Answer {
  return (response, request) => {
    let seen = 0
    request.on('data', (chunk: Buffer) => {
      seen += chunk.length
      if (seen >= bytes) response.destroy()
    })
  }
}

async function serve(t: Pick<Test, 'teardown'>, listener: RequestListener, checkContinue?: RequestListener): Promise<{ url: string, server: Server }> {
  const server = createServer(listener)
  if (checkContinue !== undefined) server.on('checkContinue', checkContinue)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => close(server))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server }
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await closed
}

export async function startTokenEndpoint(t: Pick<Test, 'teardown'>): Promise<TokenEndpoint> {
  const answers: (Answer | undefined)[] = []
  const issue: Answer = response => {
    const token = randomUUID()
    self.issued.add(token)
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ access_token: token, token_type: 'bearer', expires_in: self.expiresIn }))
  }
  const { url } = await serve(t, (request, response) => {
    void (async () => {
      const form = Object.fromEntries(new URLSearchParams(await text(request)))
      self.requests.push({ authorization: request.headers.authorization, contentType: request.headers['content-type'], form })
      await (answers.shift() ?? issue)(response, request)
    })()
  })
  const self: TokenEndpoint = { url: `${url}/oauth/token/?realm=main`, requests: [], issued: new Set(), expiresIn: 3600, next: (...more) => void answers.push(...more) }
  return self
}

export interface GatewayOptions {
  /** It answers `Expect: 100-continue` with 417, as a server that knows it not. */
  refusesExpect?: boolean
  /** It says nothing to `Expect: 100-continue`. */
  ignoresExpect?: boolean
}

export async function startGateway(t: Pick<Test, 'teardown'>, { refusesExpect = false, ignoresExpect = false }: GatewayOptions = {}): Promise<TestGateway> {
  const tokens = await startTokenEndpoint(t)
  const answers: (Answer | undefined)[] = []
  const noted = new WeakMap<IncomingMessage, Put>()

  const take: Answer = async (response, request) => {
    const put = noted.get(request)!
    if (!tokens.issued.has(/^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '')) return void says(401)(response, request)
    if (request.headers.expect !== undefined && !ignoresExpect) response.writeContinue()
    const hash = createHash('sha256')
    try {
      for await (const chunk of request) {
        put.bytes += (chunk as Buffer).length
        hash.update(chunk as Buffer)
      }
    } catch {
      return // the sender has gone
    }
    put.sha256 = hash.digest('hex')
    self.files.set(put.key, { sha256: put.sha256, size: put.bytes, contentType: request.headers['content-type'] })
    response.writeHead(201, { 'content-type': 'application/json' }).end('{"ok":true}')
  }

  const handle: RequestListener = (request, response) => {
    if (request.method !== 'PUT') {
      self.probes.push(`${request.method} ${request.url}`)
      return void response.writeHead(404).end()
    }
    const put: Put = { key: request.url!.replace(/^\/gateway\/files\//, ''), headers: request.headers, bytes: 0 }
    noted.set(request, put)
    self.puts.push(put)
    self.onPut?.(put)
    if (refusesExpect && request.headers.expect !== undefined) return void says(417)(response, request)
    void (answers.shift() ?? take)(response, request)
  }

  const { url, server } = await serve(t, handle, handle)
  const self: TestGateway = {
    url: `${url}/gateway`, tokens, puts: [], files: new Map(), probes: [], next: (...more) => void answers.push(...more),
    env: {
      FILE_GATEWAY_BASE_URL: `${url}/gateway/`, FILE_GATEWAY_AUDIENCE: GATEWAY_AUDIENCE,
      OIDC_TOKEN_URL: tokens.url, OIDC_CLIENT_ID: CLIENT_ID, OIDC_CLIENT_SECRET: CLIENT_SECRET
    },
    down: () => close(server)
  }
  return self
}
