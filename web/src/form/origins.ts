/** Where the values of a configuration come from, as `explain` tells. */

import type { Answers } from "../api/client.ts";
import type { Json } from "../api/json.ts";
import { isHidden } from "../api/masks.ts";
import { mergePatch } from "./changes.ts";
import { typeOf } from "./types.ts";

export type Explanation = Answers["ExplainAnswer"];
export type Explained = Answers["Explained"];
export type Overridden = Answers["Overridden"];

const OVERLAY = "overlay";

/** Whether a value was set, or removed, at run time. */
export function isRuntime({ layer }: { layer: string }): boolean {
  return layer === OVERLAY;
}

/** Return a layer in words, with file and line. */
export function layerInWords({
  layer,
  line,
  revision,
}: {
  layer: string;
  line: number | null;
  revision?: number | null;
}): string {
  if (layer === "schema") return "default of the schema";
  if (layer === "daemon") return "set by the daemon";
  if (layer === OVERLAY) return revision ? `set at run time, revision ${revision}` : "set at run time";
  const [file = layer, part] = layer.split("#");
  const place = line === null ? file : `${file}:${line}`;
  return part === "defaults" ? `${place}, for all services` : place;
}

/** Return the value that a place has without the run-time change; undefined if it has none then. */
export function valueBelow(overridden: readonly Overridden[]): Json | undefined {
  // The highest layer comes first; objects of several layers merge.
  return overridden.toReversed().reduce<Json | undefined>((lower, { value }) => {
    return value === null ? undefined : mergePatch(lower, value as Json);
  }, undefined);
}

/**
 * Whether the value below a run-time change can be set by an ordinary edit, after which the daemon drops the change.
 *
 * It cannot if it is hidden. If it is of another type, it may be the value of a place around.
 */
export function canSetBelow(value: Json | undefined, below: Json | undefined): boolean {
  return below === undefined || (!isHidden(below) && (value === undefined || typeOf(value) === typeOf(below)));
}
