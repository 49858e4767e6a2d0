/**
 * The manifest of a model (contract: inference, model repository). What is left out of `input` and `output` comes from the
 * ONNX graph, then float32, NCHW, RGB, [0,1], the only input and output.
 */
import { Type, type Static } from 'typebox'
import { MANIFEST_ISSUES_MAX } from '../limits.ts'
import { schemaIssues, type SchemaIssue } from './schema-issues.ts'
import { taskNamed, taskNames } from './tasks/index.ts'

const Layout = Type.Enum(['NCHW', 'NHWC'])
const Channels = Type.Union([Type.Literal(1), Type.Literal(3), Type.Literal(4)])
const Range = Type.Union([Type.Tuple([Type.Literal(0), Type.Literal(1)]), Type.Tuple([Type.Literal(0), Type.Literal(255)])])
const Dtype = Type.Enum(['float32', 'float16', 'uint8'])
const Numbers = Type.Array(Type.Number(), { minItems: 1, maxItems: 4 })

/** One image tensor of a model. */
export const ImageTensor = Type.Object({
  name: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })),
  layout: Type.Optional(Layout),
  channels: Type.Optional(Channels),
  range: Type.Optional(Range),
  mean: Type.Optional(Numbers),
  std: Type.Optional(Numbers),
  dtype: Type.Optional(Dtype)
}, { additionalProperties: false })
export type ImageTensor = Static<typeof ImageTensor>

export const MODEL_NAME = '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'
export const MODEL_VERSION = '^([1-9][0-9]{0,8}|(0|[1-9][0-9]{0,8})\\.(0|[1-9][0-9]{0,8})\\.(0|[1-9][0-9]{0,8}))$'

export const ModelManifest = Type.Object({
  name: Type.String({ pattern: MODEL_NAME }),
  version: Type.Union([Type.Integer({ minimum: 1, maximum: 999_999_999 }), Type.String({ pattern: MODEL_VERSION })]),
  task: Type.String({ minLength: 1, maxLength: 64 }),
  description: Type.Optional(Type.String({ maxLength: 4096 })),
  input: Type.Optional(ImageTensor),
  output: Type.Optional(ImageTensor),
  labels: Type.Optional(Type.Array(Type.String({ maxLength: 255 }), { maxItems: 100_000 })),
  batch: Type.Optional(Type.Object({ max: Type.Integer({ minimum: 1, maximum: 1024 }) }, { additionalProperties: false })),
  limits: Type.Optional(Type.Object({
    maxPixels: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000_000 })),
    maxTensorBytes: Type.Optional(Type.Integer({ minimum: 1, maximum: 2_147_483_648 }))
  }, { additionalProperties: false }))
}, { additionalProperties: false })
/** `version` as it was written: an integer or X.Y.Z. */
export type ModelManifest = Static<typeof ModelManifest>

/** `path` is '' for the manifest as a whole. */
export type ManifestIssue = SchemaIssue

const WORDS = {
  unknownKey: 'is no key of a manifest',
  oneOf: {
    version: 'must be a whole number from 1, or X.Y.Z',
    'input.channels': 'must be 1, 3 or 4',
    'output.channels': 'must be 1, 3 or 4',
    'input.range': 'must be [0, 1] or [0, 255]',
    'output.range': 'must be [0, 1] or [0, 255]'
  }
}

/** Checks a value that was JSON, and names what is wrong, at most MANIFEST_ISSUES_MAX of it. */
export function checkManifest(value: unknown): { manifest: ModelManifest } | { issues: ManifestIssue[] } {
  const issues = schemaIssues(ModelManifest, value, WORDS)
  if (issues.length > 0) return { issues: issues.slice(0, MANIFEST_ISSUES_MAX) }
  const manifest = value as ModelManifest
  const wrong = [...taskIssues(manifest), ...imageIssues('input', manifest.input), ...imageIssues('output', manifest.output)]
  return wrong.length > 0 ? { issues: wrong } : { manifest }
}

function taskIssues({ task }: ModelManifest): ManifestIssue[] {
  return taskNamed(task) === undefined ? [{ path: 'task', message: `must be one of ${taskNames().join(', ')}` }] : []
}

/** One mean and one std for each channel; channels that are not named are counted by the graph, when it is loaded. */
function imageIssues(which: 'input' | 'output', image: ImageTensor | undefined): ManifestIssue[] {
  const { mean, std, channels = mean?.length ?? std?.length } = image ?? {}
  const issues: ManifestIssue[] = []
  for (const [name, numbers] of Object.entries({ mean, std })) {
    if (numbers !== undefined && numbers.length !== channels) issues.push({ path: `${which}.${name}`, message: `must have ${channels} numbers: one for each channel` })
  }
  if (std?.includes(0) === true) issues.push({ path: `${which}.std`, message: 'must not be 0: it is divided by' })
  return issues
}
