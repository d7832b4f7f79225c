/** The console: starts what all screens share, and shows the screen of the route. */

import { render } from "preact";
import { startRouter } from "./router.ts";
import { startEvents } from "./store/resources.ts";
import { startTheme } from "./theme.ts";
import { Shell } from "./ui/shell.tsx";

startTheme();
startRouter();
startEvents();
const root = document.getElementById("app");
if (root !== null) render(<Shell />, root);
