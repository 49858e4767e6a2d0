/** The loaded models of one worker, by digest and bound; the least recently used is released for the next. */
import { checkManifest, type ModelManifest } from '../manifest.ts'
import { InferenceFailed, type ModelRef, type ModelSignature } from '../port.ts'
import type { Session } from '../task.ts'
import { taskNamed } from '../tasks/index.ts'
import type { ModelCache } from './model-cache.ts'
import { loadSession, type LoadedSession, type Provider } from './session.ts'

export interface Sessions {
  /** @throws InferenceFailed invalid_model, storage_failed, resource_exhausted */
  get(model: ModelRef, signal?: AbortSignal): Promise<Session>
  /** Loads a file to see whether it loads, and whether what its manifest says is so. @throws InferenceFailed invalid_model */
  inspect(path: string, manifest?: unknown): Promise<ModelSignature>
  close(): Promise<void>
}

export interface SessionsOptions {
  cache: ModelCache
  provider: Provider
  intraOpNumThreads: number
  max: number
}

export function openSessions({ cache, provider, intraOpNumThreads, max }: SessionsOptions): Sessions {
  /** In the order of their last use. */
  const loaded = new Map<string, LoadedSession>()

  async function load(model: ModelRef, maxTensorBytes: number | undefined, signal: AbortSignal | undefined): Promise<LoadedSession> {
    const open = async (): Promise<LoadedSession> => loadSession(await cache.fetch(model, signal), { provider, intraOpNumThreads, ...(maxTensorBytes !== undefined && { maxTensorBytes }) })
    try {
      return await open()
    } catch (error) {
      // another worker has made room just now
      if (!isMissing(error)) throw error
      return await open()
    }
  }

  return {
    async get(model, signal) {
      const maxTensorBytes = manifestOf(model.manifest).limits?.maxTensorBytes
      // two versions may have the same bytes, and other limits
      const name = `${model.sha256} ${maxTensorBytes}`
      const known = loaded.get(name)
      loaded.delete(name)
      if (known !== undefined) {
        loaded.set(name, known)
        return known
      }
      // before the next takes memory
      for (const [oldest, session] of loaded) {
        if (loaded.size < max) break
        loaded.delete(oldest)
        await session.release()
      }
      const session = await load(model, maxTensorBytes, signal)
      loaded.set(name, session)
      return session
    },
    async inspect(path, manifest) {
      const checked = manifest === undefined ? undefined : manifestOf(manifest)
      const maxTensorBytes = checked?.limits?.maxTensorBytes
      const session = await loadSession(path, { provider, intraOpNumThreads, ...(maxTensorBytes !== undefined && { maxTensorBytes }) })
      try {
        if (checked !== undefined) taskNamed(checked.task)?.checkModel?.(session.signature, checked)
        return session.signature
      } finally {
        await session.release()
      }
    },
    async close() {
      for (const session of loaded.values()) await session.release()
      loaded.clear()
    }
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

/** @throws InferenceFailed invalid_model */
export function manifestOf(value: unknown): ModelManifest {
  const checked = checkManifest(value)
  if ('manifest' in checked) return checked.manifest
  throw new InferenceFailed('invalid_model', `the manifest is not valid: ${checked.issues.map(({ path, message }) => `${path} ${message}`.trim()).join('; ')}`)
}
