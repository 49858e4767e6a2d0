/**
 * An answer that is given before the body of its request was read ends the connection, and so does every 401 and 403: the
 * caller cannot go on sending. The rest of the body is not drained, however long it is.
 *
 * Left to itself Node would read and discard that body after the answer, or, with `Connection: close`, close the socket
 * at once. Closing a socket with unread bytes makes the kernel send a reset, which throws the answer away under a client
 * that is still sending. So: stop reading, send the answer and FIN, wait a moment, then destroy.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CLOSE_LINGER_MS } from '../limits.ts'

/** Is there a body that has not arrived in full? */
function hasUnreadBody(message: IncomingMessage): boolean {
  if (message.complete === true) return false
  return message.headers['transfer-encoding'] !== undefined || Number(message.headers['content-length'] ?? 0) > 0
}

/** Ends the writing side now and the socket a moment later, without reading what still arrives. */
export function closeUnread(socket: Socket): void {
  socket.pause()
  if (socket.writable) socket.end()
  const timer = setTimeout(() => socket.destroy(), CLOSE_LINGER_MS)
  socket.once('close', () => clearTimeout(timer))
}

/** Makes the connection end after this answer, which must not have been sent yet. */
export function closeAfterAnswer(request: FastifyRequest, reply: FastifyReply): void {
  void reply.header('connection', 'close')
  const message = request.raw
  if (!hasUnreadBody(message)) return
  // counts as consumed from here, so that Node does not resume it after the answer; at most one water mark is buffered. Where
  // nobody has read yet it may be full, since finding out who is calling takes its time: then it has to be taken first
  const untouched = message.readableFlowing === null
  message.pause()
  message.read(untouched ? undefined : 0)
  lingerAfterAnswer(message.socket)
}

/** The same for a client that sends what belongs to no request. */
export function closeAfterLastAnswer(request: FastifyRequest, reply: FastifyReply): void {
  closeAfterAnswer(request, reply)
  lingerAfterAnswer(request.raw.socket)
}

/** Replaces what Node calls once the last answer of a connection is written. */
function lingerAfterAnswer(socket: Socket): void {
  if (socket instanceof Object && 'destroySoon' in socket) socket.destroySoon = () => closeUnread(socket)
}

/** Applies the rule to every answer of the routes of `app`. */
export function closeOnUnreadBodies(app: FastifyInstance): void {
  app.addHook('onSend', async (request, reply) => {
    const refused = reply.statusCode === 401 || reply.statusCode === 403
    if (refused || hasUnreadBody(request.raw)) closeAfterAnswer(request, reply)
  })
}
