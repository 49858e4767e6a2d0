/**
 * Which execution provider a worker uses. One that is asked for by name has to be there; `auto` takes the best that works,
 * and says what was missing. Whether one works is found out by using it, in a process of its own (probe-provider.ts).
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { PROVIDER_PROBE_TIMEOUT_MS } from '../../limits.ts'
import type { ProbeOrder, ProbeReport } from './probe-provider.ts'
import type { Provider } from './session.ts'

export interface ChosenProvider { provider: Provider, device: string, note: string | null }

/** Best first. */
const GPU_PROVIDERS = ['cuda', 'webgpu'] as const
type GpuProvider = typeof GPU_PROVIDERS[number]

/** It has a convolution, which needs all that a provider's libraries consist of. */
const MODEL = join(import.meta.dirname, '../models/edges/1/model.onnx')
const PROBE = join(import.meta.dirname, 'probe-provider.ts')

/** @throws Error where `device` names one that does not work here */
export async function chooseProvider(device: Provider | 'auto'): Promise<ChosenProvider> {
  if (device === 'cpu') return onCpu(null)
  const missing: string[] = []
  for (const provider of device === 'auto' ? GPU_PROVIDERS : [device]) {
    const reason = (device === 'auto' ? obviouslyMissing(provider) : null) ?? await tryOut(provider)
    if (reason === null) return { provider, device: await gpuName(provider), note: null }
    missing.push(`${provider}: ${reason}`)
  }
  if (device !== 'auto') throw new Error(`DEVICE=${device} cannot be used here: ${missing.join('; ').slice(device.length + 2)}`)
  return onCpu(`no GPU is used (${missing.join('; ')})`)
}

function onCpu(note: string | null): ChosenProvider {
  return { provider: 'cpu', device: cpus()[0]?.model.trim() || 'cpu', note }
}

/** What can be seen without trying, so that a machine without a GPU does not pay for trying. */
function obviouslyMissing(provider: GpuProvider): string | null {
  if (process.platform !== 'linux') return null
  if (provider === 'cuda' && !existsSync(join(runtimeFolder(), 'libonnxruntime_providers_cuda.so'))) return CUDA_MISSING
  return ['/dev/dri', '/dev/nvidiactl', '/dev/dxg'].some(path => existsSync(path)) ? null : 'there is no GPU'
}

const CUDA_MISSING = 'ONNX Runtime\'s library for CUDA is not installed'

function runtimeFolder(): string {
  const entry = createRequire(import.meta.url).resolve('onnxruntime-node')
  return join(dirname(entry), '..', 'bin', 'napi-v6', process.platform, process.arch)
}

/** Null: it works. Else why not. */
async function tryOut(provider: GpuProvider): Promise<string | null> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-probe-'))
  try {
    const report = await probe({ provider, model: MODEL, folder })
    if ('used' in report) return report.used ? null : 'ONNX Runtime runs everything on the CPU instead'
    return provider === 'cuda' && /load shared library/i.test(report.reason) ? CUDA_MISSING : report.reason
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function probe(order: ProbeOrder): Promise<ProbeReport> {
  const child = spawn(process.execPath, [PROBE], { stdio: ['pipe', 'pipe', 'ignore'], timeout: PROVIDER_PROBE_TIMEOUT_MS, killSignal: 'SIGKILL' })
  const ended = new Promise<string>(resolve => {
    child.once('error', error => resolve(error.message))
    child.once('close', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
  child.stdin.on('error', () => {})
  child.stdin.end(JSON.stringify(order))
  const [output, how] = await Promise.all([text(child.stdout), ended])
  const line = output.trimEnd().split('\n').at(-1) ?? ''
  return line.startsWith('{') ? JSON.parse(line) as ProbeReport : { reason: `trying it ended the process (${how})` }
}

const NVIDIA = '/proc/driver/nvidia/gpus'

async function gpuName(provider: GpuProvider): Promise<string> {
  const [first] = await readdir(NVIDIA).catch(() => [])
  const information = first === undefined ? '' : await readFile(join(NVIDIA, first, 'information'), 'utf8').catch(() => '')
  return /^Model:\s*(.+)$/m.exec(information)?.[1]?.trim() ?? provider
}
