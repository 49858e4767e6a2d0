/** A TCP proxy on loopback that can stand still: it goes on taking connections and bytes, and passes none on. */
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'

export interface StallingProxy {
  readonly port: number
  /** Connections taken so far. */
  readonly taken: number
  /** From now on nothing passes, in connections that are there and in new ones. */
  stall(): void
  /** Lets connections that come now through; those that stood still stay so. */
  flow(): void
}

/** Ends with the test. */
export async function stallingProxy(t: Test, port: number): Promise<StallingProxy> {
  const open = new Set<Socket>()
  let stalled = false
  let taken = 0
  const server = createServer(client => {
    taken += 1
    const upstream = connect(port, '127.0.0.1')
    for (const [socket, other] of [[client, upstream], [upstream, client]] as const) {
      open.add(socket)
      socket.on('data', chunk => { if (!stalled) other.write(chunk) })
      socket.on('error', () => {})
      socket.on('close', () => {
        open.delete(socket)
        other.destroy()
      })
    }
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  t.teardown(async () => {
    for (const socket of open) socket.destroy()
    await new Promise(done => server.close(done))
  })
  return {
    port: (server.address() as AddressInfo).port,
    get taken() { return taken },
    stall: () => { stalled = true },
    flow: () => { stalled = false }
  }
}
