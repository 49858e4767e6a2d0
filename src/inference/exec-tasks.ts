/**
 * EXEC_TASKS_FILE: the commands that the task `exec` may run, and nothing else. JSON:
 *
 *   { "tasks": [{ "name": "to-mono", "argv": ["/usr/bin/sox", "{input}", "{output}/mono.wav", "remix", "-"],
 *                 "limits": { "timeoutMs": 60000, "maxOutputBytes": 104857600, "maxFiles": 1 } }] }
 *
 * argv goes to the system as it is, without a shell. `{input}` in it becomes the path of the first input, `{output}` that of
 * the folder whose files become the results.
 */
import { constants } from 'node:fs'
import { access, open, stat } from 'node:fs/promises'
import { Type, type Static } from 'typebox'
import { EXEC_ARGUMENTS_MAX, EXEC_TASKS_FILE_MAX_BYTES, EXEC_TASKS_MAX } from '../limits.ts'
import { schemaIssues } from './schema-issues.ts'

const ExecTask = Type.Object({
  name: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$' }),
  argv: Type.Array(Type.String({ minLength: 1, maxLength: 4096 }), { minItems: 1, maxItems: EXEC_ARGUMENTS_MAX }),
  limits: Type.Optional(Type.Object({
    timeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400_000 })),
    maxOutputBytes: Type.Optional(Type.Integer({ minimum: 1 })),
    maxFiles: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 }))
  }, { additionalProperties: false }))
}, { additionalProperties: false })
export type ExecTask = Static<typeof ExecTask>

const ExecTasks = Type.Object({ tasks: Type.Array(ExecTask, { maxItems: EXEC_TASKS_MAX }) }, { additionalProperties: false })
export type ExecTasks = Static<typeof ExecTasks>

/** @throws Error that names everything that is wrong with it */
export async function readExecTasks(path: string): Promise<ExecTasks> {
  const tasks = parse(path, await readBounded(path))
  const faults = [...duplicates(tasks), ...(await Promise.all(tasks.tasks.map(commandFaults))).flat()]
  if (faults.length > 0) throw unusable(path, faults)
  return tasks
}

async function readBounded(path: string): Promise<string> {
  const file = await open(path).catch((cause: unknown) => { throw unusable(path, [`it cannot be read (${(cause as NodeJS.ErrnoException).code})`]) })
  try {
    if ((await file.stat()).size > EXEC_TASKS_FILE_MAX_BYTES) throw unusable(path, [`it has more than ${EXEC_TASKS_FILE_MAX_BYTES} bytes`])
    return await file.readFile('utf8')
  } finally {
    await file.close()
  }
}

function parse(path: string, text: string): ExecTasks {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw unusable(path, [`it is not valid JSON: ${(error as Error).message}`])
  }
  const issues = schemaIssues(ExecTasks, value, { unknownKey: 'is no key that there is' })
  if (issues.length > 0) throw unusable(path, issues.map(({ path: where, message }) => `${where} ${message}`.trim()))
  return value as ExecTasks
}

function duplicates({ tasks }: ExecTasks): string[] {
  const names = tasks.map(({ name }) => name)
  return names.filter((name, index) => names.indexOf(name) !== index).map(name => `the name "${name}" is there twice`)
}

/** An absolute path, so that nothing that somebody puts into a PATH is run instead. */
async function commandFaults({ name, argv: [command = ''] }: ExecTask): Promise<string[]> {
  if (!command.startsWith('/') && !/^[A-Za-z]:\\/.test(command)) return [`the command of "${name}" must be an absolute path, not '${command}'`]
  const isFile = await stat(command).then(info => info.isFile(), () => false)
  const executable = isFile && await access(command, constants.X_OK).then(() => true, () => false)
  return executable ? [] : [`the command of "${name}", ${command}, is no program that can be run`]
}

function unusable(path: string, faults: readonly string[]): Error {
  return new Error(`EXEC_TASKS_FILE ${path} is not usable:\n${faults.map(fault => `  - ${fault}`).join('\n')}`)
}
