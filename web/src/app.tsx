/** The console: starts what all screens share, and shows the screen of the route. */

import { render } from "preact";
import { navigate, route, startRouter } from "./router.ts";
import { servicesHref } from "./screens/services.tsx";
import { startClock } from "./store/clock.ts";
import { startEvents } from "./store/resources.ts";
import { startTheme } from "./theme.ts";
import { startFailures } from "./ui/error_boundary.tsx";
import { startFocusKeeper } from "./ui/focus_keeper.ts";
import { Shell } from "./ui/shell.tsx";

startFailures();
startTheme();
startRouter();
startClock();
startEvents();
startFocusKeeper();
// The console begins with the list as it was left.
if (route.peek().path.length === 0) navigate(servicesHref.peek(), { replace: true });
const root = document.getElementById("app");
if (root !== null) render(<Shell />, root);
