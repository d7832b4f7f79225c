/** Numbers as decimal texts of JSON, compared and divided without rounding. */

import type { Json } from "../api/json.ts";

/** A decimal number: `digits` times ten to the power of `exponent`. */
interface Decimal {
  digits: bigint;
  exponent: number;
}

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,9})?$/;
/** Beyond this the digits of numbers that are far apart would fill the memory. */
const LARGEST_EXPONENT = 2000;

/** Whether a text is a number of JSON. */
export function isNumberText(text: string): boolean {
  return NUMBER.test(text);
}

function decimal(text: string): Decimal {
  const [, whole = "0", fraction = "", exponent = "0"] = /^(-?\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  return { digits: BigInt(whole + fraction), exponent: Number(exponent) - fraction.length };
}

/** Return two numbers with the same exponent; undefined if they are too far apart. */
function aligned(one: Decimal, other: Decimal): [bigint, bigint] | undefined {
  const exponent = Math.min(one.exponent, other.exponent);
  const shifts = [one.exponent - exponent, other.exponent - exponent];
  if (Math.max(...shifts) > LARGEST_EXPONENT) return undefined;
  return [one.digits * 10n ** BigInt(shifts[0] ?? 0), other.digits * 10n ** BigInt(shifts[1] ?? 0)];
}

/** Return a number below, at or above 0 as the first number is less than, equal to or greater than the second. */
export function compareNumbers(one: Json, other: Json): number {
  const pair = aligned(decimal(String(one)), decimal(String(other)));
  if (pair === undefined) return toDouble(one) > toDouble(other) ? 1 : -1;
  return pair[0] < pair[1] ? -1 : pair[0] > pair[1] ? 1 : 0;
}

/** Return the nearest double, which is infinite for a number that is too large. */
export function toDouble(value: Json): number {
  // A LosslessNumber itself refuses to become a double that rounds it.
  return Number(String(value));
}

/** Whether a number is a multiple of another. */
export function isMultiple(value: Json, of: Json): boolean {
  const pair = aligned(decimal(String(value)), decimal(String(of)));
  return pair === undefined || pair[1] === 0n || pair[0] % pair[1] === 0n;
}

/** Whether a number has no fraction. */
export function isInteger(value: Json): boolean {
  return isMultiple(value, 1);
}
