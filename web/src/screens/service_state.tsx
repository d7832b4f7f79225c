/** The state of a service in a list, as short tags. */

import type { InvalidService } from "../api/queries.ts";
import { Tag } from "../ui/elements.tsx";
import type { Listed } from "./service_filters.ts";

export function ServiceState({ item: { status = {}, invalid }, hasDraft }: { item: Listed; hasDraft: boolean }) {
  const { drift = 0, rejected = 0, behind = 0, restart_pending = 0, instances = 0, problems = 0, online } = status;
  // The others of those behind have only not said anything yet.
  const silent = behind - rejected - restart_pending;
  const tags = [
    invalid !== undefined && <Tag tone="bad">not valid</Tag>,
    rejected > 0 && <Tag tone="bad">rejected by {rejected}</Tag>,
    drift > 0 && <Tag tone="warning">drift{drift > 1 && ` ${drift}`}</Tag>,
    silent > 0 && (
      <Tag tone="warning">
        {silent} of {instances} behind
      </Tag>
    ),
    restart_pending > 0 && <Tag tone="warning">restart pending</Tag>,
    invalid === undefined && problems > 0 && <Tag tone="warning">problems in the files</Tag>,
    online === false && <Tag>offline</Tag>,
    online === true && <Tag tone="good">online</Tag>,
    hasDraft && <Tag tone="info">draft</Tag>,
  ].filter(Boolean);
  return tags.length === 0 ? (
    <span class="muted nothing">–</span>
  ) : (
    <>
      <span class="tags">{tags}</span>
      {invalid !== undefined && <span class="comment">{reason(invalid)}</span>}
    </>
  );
}

/** Return in one line why a service is not valid. */
function reason({ problems, missing }: InvalidService): string {
  const [first] = problems;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
  return first === undefined ? `It lacks ${missing.join(", ")}.` : `${first.message}${more}`;
}
