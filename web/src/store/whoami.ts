/** Who the daemon takes this page for, and what it may do. */

import { RequestError, request } from "../api/client.ts";
import { type Loaded, useResource } from "./resources.ts";

export interface Whoami {
  name: string | null;
  role: string | null;
  /** There are neither rules nor tokens: everybody may do everything. */
  open: boolean;
  proven: boolean;
  /** Nobody between browser and daemon can read along. */
  private: boolean;
  admin: boolean;
  read: "all" | "some" | "none";
  write: "all" | "some" | "none";
  /** Whether this page may list, create and revoke tokens. */
  tokens: boolean;
  token_id: string | null;
  expires: number | null;
  environment: string;
}

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

/** Whether the caller may do what only administrators may; unknown counts as no. */
export function isAdmin({ data, error }: Loaded<Whoami>): boolean {
  // An older daemon does not say: then each screen shows what the daemon answers.
  return data?.admin ?? (error instanceof RequestError && error.status === 404);
}
