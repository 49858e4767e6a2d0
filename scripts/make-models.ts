/**
 * Writes the built-in models: `<folder>/<name>/<version>/model.onnx` and `model.json`. Deterministic: the files in the
 * repository are what this writes, which a test holds.
 *
 *     node scripts/make-models.ts [folder]      default: src/inference/models
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { builtIn } from './onnx/built-in.ts'
import { encodeModel } from './onnx/model.ts'

export const MODELS = resolve(import.meta.dirname, '../src/inference/models')

/** Returns the folders that were written. */
export function makeModels(folder: string): string[] {
  return builtIn.map(({ manifest, graph }) => {
    const target = join(folder, manifest.name, String(manifest.version))
    mkdirSync(target, { recursive: true })
    writeFileSync(join(target, 'model.onnx'), encodeModel(graph))
    writeFileSync(join(target, 'model.json'), `${JSON.stringify(manifest, null, 2)}\n`)
    return target
  })
}

if (import.meta.main) for (const folder of makeModels(resolve(process.argv[2] ?? MODELS))) console.log(folder)
