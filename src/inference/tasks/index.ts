/** The tasks there are. Another one is a file beside this one, and a line here. */
import type { Task } from '../task.ts'
import { schemaIssues } from '../schema-issues.ts'
import { embedding } from './embedding.ts'
import { exec } from './exec.ts'
import { imageClassification } from './image-classification.ts'
import { imageToImage } from './image-to-image.ts'
import { tensor } from './tensor.ts'
import { videoToVideo } from './video-to-video.ts'

const tasks: readonly Task[] = [
  tensor,
  imageClassification,
  imageToImage,
  embedding,
  videoToVideo,
  exec
]

export function taskNamed(name: string): Task | undefined {
  return tasks.find(task => task.name === name)
}

export function taskNames(): string[] {
  return tasks.map(({ name }) => name)
}

/** What is wrong with the params of a job; `field` as in its body. */
export function checkParams(task: Task, params: unknown): { field: string, message: string }[] {
  return schemaIssues(task.params, params, { unknownKey: `is no parameter of ${task.name}` })
    .map(({ path, message }) => ({ field: path === '' ? 'params' : `params.${path}`, message }))
}
