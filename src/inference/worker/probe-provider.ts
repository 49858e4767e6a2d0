/**
 * A process that tries out one execution provider, since trying can end a process: a convolution is run with the runtime's
 * profile on, which tells for each node where it ran. The runtime's own list names providers that are not there, and names
 * that it does not know it leaves out without a word.
 *
 * Standard input: JSON `{ provider, model, folder }`. Standard output: JSON `{ used }` or `{ reason }`, in its last line.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { forbidTelemetry } from '../no-telemetry.ts'
import { plainReason } from '../plain-reason.ts'
import { runtimeError } from './runtime-errors.ts'
import { runtimeOptions, type Provider } from './session.ts'

export interface ProbeOrder { provider: Provider, model: string, folder: string }
export type ProbeReport = { used: boolean } | { reason: string }

const SIDE = 8
const RUNTIME_NAMES: Readonly<Record<Provider, string>> = { cuda: 'CUDAExecutionProvider', webgpu: 'WebGpuExecutionProvider', cpu: 'CPUExecutionProvider' }

async function probe({ provider, model, folder }: ProbeOrder): Promise<ProbeReport> {
  try {
    const session = await InferenceSession.create(model, { ...runtimeOptions({ provider, intraOpNumThreads: 1 }), enableProfiling: true, profileFilePrefix: join(folder, 'profile') })
    const [input = ''] = session.inputNames
    await session.run({ [input]: new Tensor('float32', new Float32Array(3 * SIDE * SIDE).fill(0.5), [1, 3, SIDE, SIDE]) })
    session.endProfiling()
    await session.release()
    return { used: (await providersIn(folder)).has(RUNTIME_NAMES[provider]) }
  } catch (error) {
    return { reason: plainReason(runtimeError(error, 'internal_error')) }
  }
}

async function providersIn(folder: string): Promise<Set<string>> {
  const [name = ''] = await readdir(folder)
  const events = JSON.parse(await readFile(join(folder, name), 'utf8')) as { args?: { provider?: string } }[]
  return new Set(events.flatMap(({ args }) => args?.provider ?? []))
}

forbidTelemetry()
const report = await probe(JSON.parse(await text(process.stdin)) as ProbeOrder)
process.stdout.write(`\n${JSON.stringify(report)}\n`)
