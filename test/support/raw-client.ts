/** A client on a bare socket: it can send half a request, stall, hang up. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

export interface RawClient {
  socket: Socket
  send(text: string | Uint8Array): void
  /** The answer as far as it has come, once it holds a whole head and the length it announces, or the socket closed. */
  answer(): Promise<RawAnswer>
  /** Settles when the other side has closed. */
  closed: Promise<void>
  /** Hangs up without a goodbye. */
  hangUp(): void
}

export interface RawAnswer { status: number, head: string, body: string }

export async function rawClient(port: number): Promise<RawClient> {
  const socket = connect(port, '127.0.0.1')
  let text = ''
  socket.on('data', (chunk: Buffer) => { text += chunk.toString('latin1') })
  socket.on('error', () => {})
  const closed = new Promise<void>(resolve => { socket.once('close', () => resolve()) })
  await once(socket, 'connect')
  return {
    socket,
    closed,
    send: data => void socket.write(data),
    hangUp: () => void socket.resetAndDestroy(),
    async answer() {
      while (!isWhole(text) && !socket.destroyed) await delay(5)
      const [head = '', ...rest] = text.split('\r\n\r\n')
      return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1] ?? 0), head, body: rest.join('\r\n\r\n') }
    }
  }
}

function isWhole(text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  if (end === -1) return false
  const length = /content-length: (\d+)/i.exec(text.slice(0, end))?.[1]
  return length !== undefined && text.length - end - 4 >= Number(length)
}

/** The head of an upload, as a client would send it. */
export function uploadHead(query: Record<string, string>, headers: Record<string, string>): string {
  const lines = Object.entries({ host: '127.0.0.1', 'x-alga-admin': 'true', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
  return `POST /upload-proxy?${new URLSearchParams(query)} HTTP/1.1\r\n${lines.join('')}\r\n`
}

/** Looks again and again until the check holds. @throws the last failure after the time */
export async function eventually(check: () => unknown, withinMs = 5000): Promise<void> {
  const deadline = performance.now() + withinMs
  for (;;) {
    try {
      await check()
      return
    } catch (error) {
      if (performance.now() > deadline) throw error
      await delay(20)
    }
  }
}
