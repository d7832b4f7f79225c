/** Who the daemon takes this page for, and what it may do. */

import { type Whoami, whoami } from "../api/queries.ts";
import { type Loaded, useResource } from "./resources.ts";

/** Use who this page is; `data` is undefined until the daemon has said so. */
export function useWhoami(): Loaded<Whoami> {
  return useResource("whoami", (signal) => whoami(signal), ["files", "environment", "access"]);
}

/** Whether the caller may write some service; unknown counts as yes, because the daemon decides in any case. */
export function mayWrite({ data }: Loaded<Whoami>): boolean {
  return data?.write !== "none";
}

/** Whether the caller may do what only administrators may; as long as it is not known, no. */
export function isAdmin({ data }: Loaded<Whoami>): boolean {
  return data?.admin ?? false;
}
