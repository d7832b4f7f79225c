/** Words that depend on a number. */

/** Return a number with a noun: "1 place", "2,000 places". */
export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? noun : plural}`;
}
