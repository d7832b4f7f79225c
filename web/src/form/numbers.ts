/** Numbers as decimal texts of JSON, compared and divided without rounding. */

import { format, isNumber, isObject, type Json, parse } from "../api/json.ts";
import { child } from "./pointer.ts";

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

/** Up to this a double holds every integer, so that the daemon writes such a double as an integer. */
const LARGEST_EXACT = 2 ** 53;

/**
 * Return a value as the daemon stores it: an integer keeps its digits; a number with a point or an exponent is the
 * nearest double (RFC 8259 §6), and an integer if it is one.
 *
 * A number beyond the range of a double, which the daemon refuses, is returned as it is.
 */
export function asStored(value: Json): Json {
  if (Array.isArray(value)) return value.map(asStored);
  if (isObject(value)) return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, asStored(inner)]));
  return isNumber(value) ? storedNumber(String(value)) : value;
}

/** Return a message for each number in a value that the daemon stores in another form, with the number's pointer. */
export function storedOtherwise(value: Json, pointer = ""): [pointer: string, message: string][] {
  if (isNumber(value)) {
    const stored = format(asStored(value));
    return stored === String(value) ? [] : [[pointer, `${value} is stored as ${stored}`]];
  }
  if (Array.isArray(value)) return value.flatMap((item, index) => storedOtherwise(item, child(pointer, index)));
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([name, inner]) => storedOtherwise(inner, child(pointer, name)));
}

function storedNumber(text: string): Json {
  if (/^-?\d+$/.test(text)) return text === "-0" ? 0 : parse(text);
  const double = Number(text);
  if (!Number.isFinite(double)) return parse(text);
  const size = Math.abs(double);
  if (Number.isInteger(double)) {
    // 0 is added for -0.
    if (size <= LARGEST_EXACT) return double + 0;
    if (size < 1e16) return parse(`${double}.0`);
  }
  const plain = size >= 1e-5 && size < 1e16;
  return parse(plain ? String(double) : double.toExponential().replace("e+", "e"));
}
