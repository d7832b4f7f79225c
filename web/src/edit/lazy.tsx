import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Notice } from "../ui/elements.tsx";

/** Loads a component when it is first shown. `load` is asked once. */
export function Lazy<P extends object>({ load, props }: { load: () => Promise<ComponentType<P>>; props: P }) {
  const [loaded, setLoaded] = useState<{ component?: ComponentType<P>; failed?: string }>({});
  useEffect(() => {
    let wanted = true;
    load().then(
      (component) => wanted && setLoaded({ component }),
      (error) => wanted && setLoaded({ failed: String(error) }),
    );
    return () => {
      wanted = false;
    };
  }, []);
  const Component = loaded.component;
  if (Component !== undefined) return <Component {...props} />;
  if (loaded.failed === undefined)
    return (
      <p class="loading" role="status">
        Loading …
      </p>
    );
  return (
    <Notice tone="bad" title="This part of the console could not be loaded.">
      <p>{loaded.failed}</p>
      <p>Load the page again; drafts are kept.</p>
    </Notice>
  );
}
