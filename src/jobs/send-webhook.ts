/**
 * One POST to a webhook. A connection of its own each time, since one that is kept was looked up some other time; redirects
 * are an answer like any other; of the answer a little is read, for the sake of whoever sends it.
 */
import { createHmac } from 'node:crypto'
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { WEBHOOK_ANSWER_MAX_BYTES, WEBHOOK_TIMEOUT_MS } from '../limits.ts'
import { AddressRefused, isPrivateAddress, literalAddress, publicLookup } from './webhook-address.ts'

export interface WebhookRequest {
  url: string
  /** of the event: the same each time it is sent */
  id: string
  body: string
  secret: string
  allowPrivate: boolean
  signal: AbortSignal
  timeoutMs?: number
}

/** `sha256=<hex>`: HMAC of the body. */
export function signatureOf(body: string, secret: string): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
}

/** The status that came back. @throws AddressRefused; whatever kept an answer from coming */
export async function sendWebhook({ url: text, id, body, secret, allowPrivate, signal, timeoutMs = WEBHOOK_TIMEOUT_MS }: WebhookRequest): Promise<number> {
  const url = new URL(text)
  const address = literalAddress(url)
  if (!allowPrivate && address !== undefined && isPrivateAddress(address)) throw new AddressRefused(address)
  const https = url.protocol === 'https:'
  const options = {
    method: 'POST', agent: https ? new HttpsAgent({ keepAlive: false }) : new HttpAgent({ keepAlive: false }),
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    headers: {
      'content-type': 'application/json', 'content-length': Buffer.byteLength(body), 'user-agent': 'penstock-webhooks',
      'x-penstock-event-id': id, 'x-penstock-signature': signatureOf(body, secret)
    },
    ...(!allowPrivate && { lookup: publicLookup() })
  }
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = https ? httpsRequest(url, options) : httpRequest(url, options)
    request.on('response', resolve).on('error', reject).end(body)
  })
  await readSome(response)
  return response.statusCode ?? 0
}

/** The status is all that counts: what is wrong with the rest is no failure. */
async function readSome(response: IncomingMessage): Promise<void> {
  let bytes = 0
  try {
    for await (const chunk of response) {
      bytes += (chunk as Buffer).length
      if (bytes > WEBHOOK_ANSWER_MAX_BYTES) break
    }
  } catch {
    // cut off
  } finally {
    response.destroy()
  }
}
