/** The theme: that of the system unless the user chose one, which the browser remembers. */

import { signal } from "@preact/signals";
import { remember, remembered } from "./memory.ts";

export type Theme = "system" | "light" | "dark";
const NAME = "theme";
const known: readonly string[] = ["system", "light", "dark"] satisfies Theme[];

const stored = remembered(NAME);
export const theme = signal<Theme>(stored !== undefined && known.includes(stored) ? (stored as Theme) : "system");

export function startTheme(): void {
  theme.subscribe((value) => {
    document.documentElement.dataset.theme = value;
    remember(NAME, value);
  });
}
