/** Whether what was applied has reached the broker, as far as the daemon's health says. */

import type { Health } from "../api/queries.ts";
import type { Session } from "./session.ts";

type Applied = NonNullable<Session["applied"]["value"]>;

/** Of each change that was applied: the health before it, and whether the broker was seen to have everything since. */
const states = new WeakMap<Applied, { before: Health | undefined; published: boolean }>();

/**
 * Whether a change is published only when the broker is back.
 *
 * The daemon may learn after its answer that the broker hangs.
 *
 * @param environment The environment of the change; only of the active one anything is published.
 * @param health The last health; one object for each answer.
 */
export function waitsForBroker(applied: Applied, environment: string, health: Health | undefined): boolean {
  const state = states.get(applied) ?? { before: health, published: false };
  states.set(applied, state);
  if (health === undefined || health === state.before) return applied.waits;
  const isPending = health.outbox_pending > 0;
  if (!isPending) state.published = true;
  if (state.published || environment !== health.environment) return false;
  return applied.waits || !health.mqtt_connected;
}
