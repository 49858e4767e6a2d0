/**
 * What one connection, and all of them together, may hold.
 *
 * Node begins every request that a client sends without waiting for answers (pipelining) as soon as it has arrived, and
 * keeps all their answers until the client reads them. Here a request waits until the answer before it is out, as RFC 9112,
 * section 9.3.2 asks for where methods are not safe; a client that lets more than PIPELINED_MAX wait is cut off. Requests
 * behind the last answer of a connection are never begun (section 9.6): they would have their effect, and nobody could be
 * told.
 *
 * A client that takes nothing of its answer for ANSWER_STALL_TIMEOUT_MS is cut off. One that waits while the service is at
 * work (a big copy) is not, and bodies that stop arriving are ended with 408 by whoever reads them.
 */
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyBaseLogger } from 'fastify'
import { ANSWER_STALL_STOPPING_MS, ANSWER_STALL_TIMEOUT_MS, CONNECTIONS_DROPPED_LOG_INTERVAL_MS, CONNECTIONS_MAX, PIPELINED_MAX } from '../limits.ts'

export interface Connections {
  /** The listener for 'request' that begins one request of a connection at a time. */
  inTurn(begin: RequestListener): RequestListener
  /** Minds the connections of a server. A service that listens on several addresses has several. */
  mind(server: Server): void
  /** Shutdown has begun: ends connections that were opened ahead of need, and waits less long for clients that take nothing. */
  stopping(): void
}

/** Requests of a connection that are not answered, oldest first; that one is under way. */
type Line = (() => void)[]

export function connections(log: FastifyBaseLogger): Connections {
  const lines = new Map<Socket, Line>()
  const servers: Server[] = []
  return {
    inTurn: begin => (request, response) => join(lines.get(request.socket) ?? [], begin, request, response),
    mind(server) {
      servers.push(server)
      server.maxConnections = CONNECTIONS_MAX
      server.timeout = ANSWER_STALL_TIMEOUT_MS
      server.on('connection', (socket: Socket) => {
        lines.set(socket, [])
        socket.once('close', () => lines.delete(socket))
      })
      server.on('timeout', (socket: Socket) => {
        const atWork = (lines.get(socket)?.length ?? 0) > 0 && socket.writableLength === 0
        if (atWork) socket.setTimeout(server.timeout)
        else socket.destroy()
      })
      server.on('drop', dropped(log))
    },
    stopping() {
      for (const server of servers) server.timeout = ANSWER_STALL_STOPPING_MS
      for (const socket of lines.keys()) {
        if (socket.bytesRead === 0) socket.destroy()
        else socket.setTimeout(ANSWER_STALL_STOPPING_MS)
      }
    }
  }
}

function join(line: Line, begin: RequestListener, request: IncomingMessage, response: ServerResponse): void {
  const { socket } = request
  // the parser goes on with what it has in hand
  if (!socket.writable) return
  if (line.length > PIPELINED_MAX) return void socket.destroy()
  response.once('close', () => {
    line.shift()
    if (socket.writable) line[0]?.()
  })
  line.push(() => begin(request, response))
  if (line.length === 1) line[0]?.()
}

/** One line of the log for as many connections as come in an interval. */
function dropped(log: FastifyBaseLogger): () => void {
  let silentUntil = 0
  return () => {
    if (performance.now() < silentUntil) return
    silentUntil = performance.now() + CONNECTIONS_DROPPED_LOG_INTERVAL_MS
    log.warn({ action: 'http.connections.dropped' }, 'there are too many connections; new ones are closed')
  }
}
