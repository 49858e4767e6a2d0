/** The table of promotions-tables.ts as Kysely sees it. */
import type { Selectable } from 'kysely'
import type { Promotion } from './promotions-port.ts'

export interface PromotionsTable {
  job_id: string
  source: string
  target_object_key: string
  size: number
  sha256: string
  /** null: not yet */
  promoted_at: number | null
  /** who sends; null: nobody */
  lease: string | null
  lease_until: number
}

/** Undefined of a row that is no promotion yet. */
export function promotionOf(row: Selectable<PromotionsTable>): Promotion | undefined {
  const { source, target_object_key: target, size, sha256, promoted_at: promotedAt } = row
  return promotedAt === null ? undefined : { source, target, size, sha256, promotedAt }
}
