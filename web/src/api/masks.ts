/** What stands for a secret in the daemon's answers, which never show one. */

import { isObject, type Json } from "./json.ts";

export const MASK = "***";

/** Whether a value is a secret that is not shown, or has one inside. */
export function isHidden(value: Json | undefined): boolean {
  if (value === MASK) return true;
  if (Array.isArray(value)) return value.some(isHidden);
  return isObject(value) && Object.values(value).some(isHidden);
}
