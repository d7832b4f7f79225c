/** What the bar says of the last write of this page. */

export interface AppliedWrite {
  revision: number;
  /** The revision that the page shows, which is a later one after others changed something. */
  newest: number;
  environment: string;
  /** The active environment; undefined while it is not known. */
  active: string | undefined;
  /** Whether it is published only when the broker is back. */
  waits: boolean;
}

/** Return what became of the write: no service has it while its environment is not the active one. */
export function appliedText({ revision, newest, environment, active, waits }: AppliedWrite): string {
  if (newest > revision) return `Revision ${revision} was applied; revision ${newest} is the newest now.`;
  if (active !== undefined && active !== environment) {
    return `Revision ${revision} is saved; services get it when ${environment} is activated.`;
  }
  if (waits) return `Revision ${revision} is saved, and will be published when the broker is back.`;
  return `Revision ${revision} is in force.`;
}
