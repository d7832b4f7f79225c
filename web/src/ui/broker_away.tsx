/** A broker that is away: what is changed meanwhile is stored, and services hear of it later. */

import { Notice } from "./elements.tsx";

export function BrokerAway() {
  return (
    <Notice tone="warning" title="The broker is away.">
      <p>A change is saved all the same, and will be published when the broker is back.</p>
    </Notice>
  );
}

/** Return what is added to the message that something was done, if services do not hear of it yet. */
export function laterThan({ waits_for_broker: waits = false }: { waits_for_broker?: boolean }): string {
  return waits ? " It is saved, and will be published when the broker is back." : "";
}
