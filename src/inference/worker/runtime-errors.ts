/** What ONNX Runtime throws, in words that may leave this machine: no paths, neither of its source nor of ours. */
import { plainReason } from '../plain-reason.ts'
import { InferenceFailed, type InferenceFailureCode } from '../port.ts'

const OUT_OF_MEMORY = /bad_?alloc|failed to allocate|out of memory|CUDA error.*memory|array buffer allocation failed|invalid (typed )?array length/i

/** `code` unless it was memory that was missing. */
export function runtimeError(error: unknown, code: InferenceFailureCode): InferenceFailed {
  if (error instanceof InferenceFailed) return error
  const text = error instanceof Error ? error.message : String(error)
  return new InferenceFailed(OUT_OF_MEMORY.test(text) ? 'resource_exhausted' : code, plainReason(withoutPlaces(text)), { cause: error })
}

/** The file that was to be loaded, and where in the runtime's source it was noticed. */
function withoutPlaces(text: string): string {
  return text.replace(/^Load model from .*? failed:/s, '').replaceAll(/\/onnxruntime_src\/\S+:\d+ .*?\) /g, '')
}
