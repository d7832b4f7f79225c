/** The time, for what says how long ago something was. */

import { signal } from "@preact/signals";

const STEP_MS = 20_000;

/** Unix seconds, renewed several times a minute while somebody looks at the page. */
export const now = signal(Date.now() / 1000);

export function startClock(): void {
  const renew = () => {
    if (!document.hidden) now.value = Date.now() / 1000;
  };
  setInterval(renew, STEP_MS);
  document.addEventListener("visibilitychange", renew);
}
