/** What the console says while the broker is away: changes are stored, and published later. */

import { Notice } from "./elements.tsx";

export function BrokerAway() {
  return (
    <Notice tone="warning" title="The broker is away.">
      <p>A change is saved all the same, and will be published when the broker is back.</p>
    </Notice>
  );
}

/** Return a sentence for the message after a change: that it is published later, if the broker is away; otherwise "". */
export function publishedLater({ waits_for_broker: waits = false }: { waits_for_broker?: boolean }): string {
  return waits ? " It is saved, and will be published when the broker is back." : "";
}
