/**
 * Bodies are taken as the bytes they are. Node undoes `chunked` and hands out what else they were coded with; that would
 * be stored as if it were the content. RFC 9112, section 6.1: such a coding is answered with 501.
 */
import type { FastifyInstance } from 'fastify'
import { PenstockError } from '../errors.ts'

/** Call before anything reads a body. */
export function refuseTransferCodings(app: FastifyInstance): void {
  app.addHook('onRequest', async request => {
    const codings = request.headers['transfer-encoding']
    if (codings !== undefined && codings.trim().toLowerCase() !== 'chunked') throw new PenstockError('UNSUPPORTED_TRANSFER_CODING')
  })
}
