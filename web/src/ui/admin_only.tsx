import type { ComponentChildren } from "preact";
import { useWhoami } from "../store/whoami.ts";
import { Await } from "./elements.tsx";

/**
 * Shows its children to administrators, and to others what they are told instead: what would be refused is not asked for,
 * because each refusal stands in the audit log.
 */
export function AdminOnly({ otherwise, children }: { otherwise: ComponentChildren; children: ComponentChildren }) {
  return <Await of={useWhoami()}>{({ admin }) => (admin ? children : otherwise)}</Await>;
}
