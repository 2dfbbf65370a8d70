// The handlers for jobs, their tasks, and the tasks' files.

import type { Job, Task, TaskFile } from './batch-account.ts'
import { created, done, errorMessage, jsonAnswer, longTime, metadata, requestId } from './batch-answers.ts'
import { type Call, checkId, isUnchanged, readJson, readOptional } from './batch-call.ts'
import { BatchError, ERRORS } from './batch-errors.ts'
import type { Answer } from './exchange.ts'

const MAX_TASKS_PER_CALL = 100

export function findJob(call: Call): Job {
  const job = call.account.jobs.get(call.parameters[0]!)
  if (job === undefined) throw new BatchError('JobNotFound')
  return job
}

export async function addJob(call: Call): Promise<Answer> {
  const { id, ...settings } = await readJson(call)
  const { jobs } = call.account
  if (jobs.has(checkId(id))) throw new BatchError('JobExists')
  if (settings['poolInfo'] === undefined)
    throw new BatchError('MissingRequiredProperty', { PropertyName: 'poolInfo' })
  const job = call.account.addJob(checkId(id), settings)
  return created(jobUrl(call, job.id), job.version)
}

export async function changeJob(call: Call, keep: (job: Job) => Record<string, unknown>): Promise<Answer> {
  const job = findJob(call)
  isUnchanged(call, job.version)
  job.settings = { ...keep(job), ...(await readJson(call)) }
  call.account.touch(job)
  return done(200, jobUrl(call, job.id), job.version)
}

export function deleteJob(call: Call): Answer {
  const job = findJob(call)
  isUnchanged(call, job.version)
  call.account.jobs.delete(job.id)
  return { status: 202, body: '' }
}

export async function moveJob(call: Call, state: Job['state']): Promise<Answer> {
  const job = findJob(call)
  isUnchanged(call, job.version)
  await readOptional(call)
  if (job.state === 'completed') throw new BatchError('JobCompleted')
  job.state = state
  call.account.touch(job)
  return done(202, jobUrl(call, job.id), job.version)
}

export function jobBody(call: Call, job: Job): Record<string, unknown> {
  const since = longTime(job.created)
  return {
    id: job.id,
    url: jobUrl(call, job.id),
    eTag: job.version.etag,
    lastModified: longTime(job.version.lastModified),
    creationTime: since,
    state: job.state,
    stateTransitionTime: longTime(job.version.lastModified),
    priority: 0,
    maxParallelTasks: -1,
    usesTaskDependencies: false,
    onAllTasksComplete: 'noaction',
    onTaskFailure: 'noaction',
    constraints: { maxWallClockTime: 'P10675199DT2H48M5.4775807S', maxTaskRetryCount: 0 },
    ...job.settings,
    executionInfo: { startTime: since, poolId: poolIdOf(job) },
  }
}

function poolIdOf(job: Job): string {
  const info = job.settings['poolInfo'] as { readonly poolId?: string } | undefined
  return info?.poolId ?? 'pool-1'
}

export function countTasks(call: Call): Answer {
  const succeeded = findJob(call).tasks.size
  const counts = { active: 0, running: 0, completed: succeeded, succeeded, failed: 0 }
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, 'taskcountsresult/@Element'),
    taskCounts: counts,
    taskSlotCounts: counts,
  })
}

// ---- tasks

export function findTask(call: Call): Task {
  const task = findJob(call).tasks.get(call.parameters[1]!)
  if (task === undefined) throw new BatchError('TaskNotFound')
  return task
}

export async function addTask(call: Call): Promise<Answer> {
  const job = findJob(call)
  const { id, ...settings } = await readJson(call)
  if (job.tasks.has(checkId(id))) throw new BatchError('TaskExists')
  const task = call.account.addTask(job, checkId(id), settings)
  return created(taskUrl(call, task), task.version)
}

/** Each task succeeds or fails by itself; the answer is 200 all the same. */
export async function addTasks(call: Call): Promise<Answer> {
  const job = findJob(call)
  const { value } = await readJson(call)
  if (!Array.isArray(value)) throw new BatchError('MissingRequiredProperty', { PropertyName: 'value' })
  if (value.length > MAX_TASKS_PER_CALL) {
    throw new BatchError('RequestBodyTooLarge', { MaxTasks: String(MAX_TASKS_PER_CALL) })
  }
  const results = (value as Record<string, unknown>[]).map(({ id, ...settings }) => {
    const taskId = checkId(id)
    if (job.tasks.has(taskId)) {
      const message = errorMessage(ERRORS.TaskExists[1], requestId(call.exchange), call.clock.now())
      return { status: 'clienterror', taskId, error: { code: 'TaskExists', message } }
    }
    const task = call.account.addTask(job, taskId, settings)
    return {
      status: 'success',
      taskId,
      eTag: task.version.etag,
      lastModified: longTime(task.version.lastModified),
      location: taskUrl(call, task),
    }
  })
  return jsonAnswer({ 'odata.metadata': metadata(call.exchange, 'taskaddresult'), value: results })
}

export function deleteTask(call: Call): Answer {
  const task = findTask(call)
  isUnchanged(call, task.version)
  findJob(call).tasks.delete(task.id)
  return { status: 200, body: '' }
}

export async function terminateTask(call: Call): Promise<Answer> {
  const task = findTask(call)
  isUnchanged(call, task.version)
  await readOptional(call)
  return done(204, taskUrl(call, task), task.version)
}

export function taskBody(call: Call, task: Task): Record<string, unknown> {
  const time = longTime(task.created)
  const job = call.account.jobs.get(task.jobId)
  const poolId = job === undefined ? 'pool-1' : poolIdOf(job)
  const nodeId = `tvmps_${poolId}_1`
  const nodeUrl = `${call.exchange.origin}/pools/${encodeURIComponent(poolId)}/nodes/${encodeURIComponent(nodeId)}`
  const taskRootDirectory = `workitems/${task.jobId}/job-1/${task.id}`
  return {
    id: task.id,
    url: taskUrl(call, task),
    eTag: task.version.etag,
    creationTime: time,
    lastModified: longTime(task.version.lastModified),
    state: 'completed',
    stateTransitionTime: time,
    previousState: 'running',
    previousStateTransitionTime: time,
    ...task.settings,
    nodeInfo: {
      affinityId: `TVM:${nodeId}`,
      nodeUrl,
      poolId,
      nodeId,
      taskRootDirectory,
      taskRootDirectoryUrl: `${nodeUrl}/files/${taskRootDirectory}`,
    },
    executionInfo: {
      startTime: time,
      endTime: time,
      exitCode: 0,
      result: 'success',
      retryCount: 0,
      requeueCount: 0,
    },
  }
}

// ---- files of tasks

function findFile(call: Call): { readonly task: Task; readonly file: TaskFile } {
  const task = findTask(call)
  const file = task.files.get(call.parameters[2]!)
  if (file === undefined) throw new BatchError('FileNotFound')
  return { task, file }
}

export function listFiles(call: Call): Answer {
  const task = findTask(call)
  const recursive = call.exchange.query.get('recursive')?.toLowerCase() === 'true'
  const files = [...task.files.values()].filter(({ name }) => recursive || !name.includes('/'))
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, 'files'),
    value: files.map(file => ({
      name: file.name,
      url: fileUrl(call, task, file),
      isDirectory: file.isDirectory,
      ...(file.isDirectory
        ? {}
        : {
            properties: {
              creationTime: longTime(task.created),
              lastModified: longTime(task.created),
              contentLength: String(file.bytes),
              contentType: 'application/octet-stream',
              fileMode: FILE_MODE,
            },
          }),
    })),
  })
}

const FILE_MODE = '0o100644'

/** GET is chunked and has no length; HEAD has the length. A range is asked for with `ocp-range` and answered with 200. */
export function readFile(call: Call): Answer {
  const { task, file } = findFile(call)
  const { start, end } = readRange(call.exchange.header('ocp-range'), file.bytes)
  return {
    status: 200,
    headers: {
      'content-type': 'application/octet-stream',
      'last-modified': new Date(task.created).toUTCString(),
      'ocp-creation-time': new Date(task.created).toUTCString(),
      'ocp-batch-file-isdirectory': file.isDirectory ? 'True' : 'False',
      'ocp-batch-file-mode': FILE_MODE,
      'ocp-batch-file-url': encodeURIComponent(fileUrl(call, task, file)),
      ...(call.exchange.method === 'HEAD' ? { 'content-length': String(file.bytes) } : {}),
    },
    body: file.read(start, end),
  }
}

/** `bytes=a-b`, `bytes=a-`; `end` is exclusive. */
function readRange(
  header: string | undefined,
  size: number,
): { readonly start: number; readonly end: number } {
  if (header === undefined) return { start: 0, end: size }
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(header) ?? []
  if (first === undefined)
    throw new BatchError('InvalidHeaderValue', { HeaderName: 'ocp-range', HeaderValue: header })
  const start = Number(first)
  const end = last === '' || last === undefined ? size : Math.min(Number(last) + 1, size)
  if (start >= end) throw new BatchError('InvalidRange')
  return { start, end }
}

export function deleteFile(call: Call): Answer {
  const { task, file } = findFile(call)
  task.files.delete(file.name)
  return { status: 200, body: '' }
}

function jobUrl(call: Call, id: string): string {
  return `${call.exchange.origin}/jobs/${encodeURIComponent(id)}`
}

function taskUrl(call: Call, task: Task): string {
  return `${jobUrl(call, task.jobId)}/tasks/${encodeURIComponent(task.id)}`
}

function fileUrl(call: Call, task: Task, file: TaskFile): string {
  return `${taskUrl(call, task)}/files/${file.name}`
}
