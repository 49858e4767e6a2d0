/** The port to the processes that run jobs, as they say of themselves every few seconds. */
export interface NodeWorker {
  id: string
  state: string
  provider: string | null
  device: string | null
  runs: number
}

export interface NodeRecord {
  id: string
  workers: NodeWorker[]
  seenAt: number
}

export interface NodeRecords {
  /** Here it is, and these are its workers. One row for each node. */
  beat(id: string, workers: readonly NodeWorker[]): Promise<void>
  /** Nodes that were seen at or after this time, by id, at most `limit`. */
  list(since: number, limit: number): Promise<NodeRecord[]>
  /** It ends. Idempotent. */
  leave(id: string): Promise<void>
}
