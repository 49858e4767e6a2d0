/** What a worker says, checked before it is believed: one that has lost its mind must not take the service along. */
import type { Execution, InferenceFailureCode, ModelSignature, StagedResult, TensorMetadata, WireTensor } from '../port.ts'
import type { FromWorker } from '../protocol.ts'

const isText = (value: unknown): value is string => typeof value === 'string'
const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value)
const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean'
const isBytes = (value: unknown): value is Uint8Array => value instanceof Uint8Array
const isFraction = (value: unknown): value is number => isNumber(value) && value >= 0 && value <= 100
const orNull = <T>(is: (value: unknown) => value is T) => (value: unknown): value is T | null => value === null || is(value)
const listOf = <T>(is: (value: unknown) => value is T) => (value: unknown): value is T[] => Array.isArray(value) && value.every(is)
function shaped<T>(fields: { [Name in keyof T]: (value: unknown) => value is T[Name] }) {
  const checks = Object.entries<(value: unknown) => boolean>(fields)
  return (value: unknown): value is T => typeof value === 'object' && value !== null
    && checks.every(([name, is]) => is((value as Record<string, unknown>)[name]))
}

const CODES: ReadonlySet<string> = new Set<InferenceFailureCode>([
  'invalid_input', 'invalid_model', 'worker_lost', 'storage_failed', 'resource_exhausted', 'node_failed', 'timeout', 'cancelled', 'internal_error'
])
const isCode = (value: unknown): value is InferenceFailureCode => isText(value) && CODES.has(value)
const isDatatype = (value: unknown): value is TensorMetadata['datatype'] => isText(value)

const isExecution = shaped<Execution>({ provider: isText, device: isText, worker: isText })
const isResult = shaped<StagedResult>({ name: isText, filename: isText, key: isText, etag: isText, size: isNumber, sha256: isText, contentType: isText })
const isMetadata = shaped<TensorMetadata>({ name: isText, datatype: isDatatype, shape: listOf(isNumber) })
const isTensor = shaped<WireTensor>({ name: isText, datatype: isDatatype, shape: listOf(isNumber), data: isBytes })
const isSignature = shaped<ModelSignature>({ inputs: listOf(isMetadata), outputs: listOf(isMetadata) })

type Fields<Kind extends FromWorker['type']> = Omit<Extract<FromWorker, { type: Kind }>, 'type'>
const KINDS: { [Kind in FromWorker['type']]: (value: unknown) => value is Fields<Kind> } = {
  ready: shaped<Fields<'ready'>>({ execution: isExecution, note: orNull(isText) }),
  unusable: shaped<Fields<'unusable'>>({ message: isText }),
  started: shaped<Fields<'started'>>({ id: isText, execution: isExecution }),
  staging: shaped<Fields<'staging'>>({ id: isText, key: isText }),
  progress: shaped<Fields<'progress'>>({ id: isText, stage: isText, progress: orNull(isFraction), message: orNull(isText) }),
  done: shaped<Fields<'done'>>({
    id: isText, results: listOf(isResult), tensors: listOf(isTensor), signature: orNull(isSignature),
    sha256: orNull(isText), size: orNull(isNumber), rss: isNumber
  }),
  failed: shaped<Fields<'failed'>>({ id: isText, code: isCode, message: isText, retryable: isBoolean, reason: orNull(isText), rss: isNumber })
}

/** The message, or null for what is none. */
export function readMessage(value: unknown): FromWorker | null {
  const type = typeof value === 'object' && value !== null ? (value as { type?: unknown }).type : undefined
  return isText(type) && Object.hasOwn(KINDS, type) && KINDS[type as FromWorker['type']](value) ? value as FromWorker : null
}
