// The handlers for pools and their nodes.

import type { Pool } from './batch-account.ts'
import { created, done, jsonAnswer, longTime, metadata } from './batch-answers.ts'
import { type Call, checkId, isUnchanged, readJson, readOptional } from './batch-call.ts'
import { BatchError } from './batch-errors.ts'
import type { Answer } from './exchange.ts'

export function findPool(call: Call): Pool {
  const pool = call.account.pools.get(call.parameters[0]!)
  if (pool === undefined) throw new BatchError('PoolNotFound')
  return pool
}

export async function addPool(call: Call): Promise<Answer> {
  const { id, ...settings } = await readJson(call)
  if (call.account.pools.has(checkId(id))) throw new BatchError('PoolExists')
  const pool = call.account.addPool(checkId(id), settings)
  return created(poolUrl(call, pool.id), pool.version)
}

export async function changePool(call: Call): Promise<Answer> {
  const pool = findPool(call)
  isUnchanged(call, pool.version)
  pool.settings = { ...pool.settings, ...(await readJson(call)) }
  call.account.touch(pool)
  return done(200, poolUrl(call, pool.id), pool.version)
}

export function deletePool(call: Call): Answer {
  const pool = findPool(call)
  isUnchanged(call, pool.version)
  call.account.pools.delete(pool.id)
  return { status: 202, body: '' }
}

/** Resize and stopresize. The new size is reached at once. */
export async function movePool(call: Call): Promise<Answer> {
  const pool = findPool(call)
  isUnchanged(call, pool.version)
  if (call.exchange.path.endsWith('/resize')) pool.settings = { ...pool.settings, ...(await readJson(call)) }
  else await readOptional(call)
  call.account.touch(pool)
  return done(202, poolUrl(call, pool.id), pool.version)
}

export function poolBody(call: Call, pool: Pool): Record<string, unknown> {
  const nodes = call.account.nodes(pool).length
  return {
    id: pool.id,
    url: poolUrl(call, pool.id),
    eTag: pool.version.etag,
    lastModified: longTime(pool.version.lastModified),
    creationTime: longTime(pool.created),
    state: 'active',
    stateTransitionTime: longTime(pool.created),
    allocationState: 'steady',
    allocationStateTransitionTime: longTime(pool.version.lastModified),
    currentDedicatedNodes: nodes,
    currentLowPriorityNodes: 0,
    targetDedicatedNodes: nodes,
    targetLowPriorityNodes: 0,
    taskSlotsPerNode: 1,
    ...pool.settings,
  }
}

export function listNodes(call: Call): Answer {
  const pool = findPool(call)
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, 'nodes'),
    value: call.account.nodes(pool).map(id => nodeBody(call, pool, id)),
  })
}

export function getNode(call: Call): Answer {
  const pool = findPool(call)
  const id = call.account.nodes(pool).find(node => node === call.parameters[1])
  if (id === undefined) throw new BatchError('NodeNotFound')
  return jsonAnswer({
    'odata.metadata': metadata(call.exchange, 'nodes/@Element'),
    ...nodeBody(call, pool, id),
  })
}

function nodeBody(call: Call, pool: Pool, id: string): Record<string, unknown> {
  return {
    id,
    url: `${poolUrl(call, pool.id)}/nodes/${encodeURIComponent(id)}`,
    state: 'idle',
    schedulingState: 'enabled',
    stateTransitionTime: longTime(pool.created),
    affinityId: `TVM:${id}`,
    vmSize: pool.settings['vmSize'],
    totalTasksRun: 0,
  }
}

function poolUrl(call: Call, id: string): string {
  return `${call.exchange.origin}/pools/${encodeURIComponent(id)}`
}
