/** Who the daemon takes this page for, and what it may do. */

import { type Answers, request } from "../api/client.ts";
import { type Loaded, useResource } from "./resources.ts";

export type Whoami = Answers["WhoamiAnswer"];

/** Ask who a token is. */
export function whoami(signal?: AbortSignal, token?: string): Promise<Whoami> {
  return request("GET", "/whoami", {
    ...(signal === undefined ? {} : { signal }),
    ...(token === undefined ? {} : { token }),
  });
}

/** Use who this page is; `data` is undefined until the daemon has said so. */
export function useWhoami(): Loaded<Whoami> {
  return useResource("whoami", (signal) => whoami(signal), ["files", "environment"]);
}

/** Whether the caller may write some service; unknown counts as yes, because the daemon decides in any case. */
export function mayWrite({ data }: Loaded<Whoami>): boolean {
  return data?.write !== "none";
}

/** Whether the caller may do what only administrators may; as long as it is not known, no. */
export function isAdmin({ data }: Loaded<Whoami>): boolean {
  return data?.admin ?? false;
}
