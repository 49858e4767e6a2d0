/**
 * Entry of a worker, a child process or a thread. It imports what the service never does: ONNX Runtime and, when an image
 * comes, sharp. All that it has to know comes by message; of its environment it reads nothing.
 */
import { Socket } from 'node:net'
import { parentPort } from 'node:worker_threads'
import { CHANNEL_FD, framedChannel } from './inference/framed-channel.ts'
import type { FromWorker, ToWorker } from './inference/protocol.ts'
import { workerLoop } from './inference/worker/loop.ts'
import { watchParent } from './inference/worker/watchdog.ts'
import { openObjectStore, type StoreSettings } from './stores.ts'

const openStore = (settings: Record<string, unknown>) => openObjectStore(settings as unknown as StoreSettings)

if (parentPort === null) listenAsProcess()
else listenAsThread(parentPort)

function listenAsProcess(): void {
  watchParent()
  const channel = framedChannel(new Socket({ fd: CHANNEL_FD }), {
    maxBytes: Number.POSITIVE_INFINITY,
    onMessage: message => hear(message as ToWorker),
    onBroken: () => process.exit(1)
  })
  const hear = workerLoop({ openStore, say: message => channel.send(message), onEnd: channel.end })
  void channel.closed.then(() => process.exit(0))
  // a Ctrl-C is for the service, which then says what to do
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
}

function listenAsThread(port: NonNullable<typeof parentPort>): void {
  const hear = workerLoop({
    openStore,
    say: (message: FromWorker) => port.postMessage(message),
    onEnd: () => port.close()
  })
  port.on('message', (message: ToWorker) => hear(message))
}
