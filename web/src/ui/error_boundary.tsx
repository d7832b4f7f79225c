/** What the page shows when a part of it fails: that, and a way on. Drafts lie in the browser's storage and stay. */

import { signal } from "@preact/signals";
import { Component, type ComponentChildren } from "preact";
import { Notice } from "./elements.tsx";

interface Props {
  /** Another value tries again, as when the screen changes. */
  place: string;
  children: ComponentChildren;
}
interface State {
  error: unknown;
  place: string;
}

/** Shows its children; if one of them fails while it is rendered, says so in its place. */
export class ErrorBoundary extends Component<Props, State> {
  override state: State = { error: undefined, place: this.props.place };

  static override getDerivedStateFromError(error: unknown): Partial<State> {
    return { error: error ?? new Error("unknown") };
  }

  static override getDerivedStateFromProps(props: Props, state: State): Partial<State> | null {
    return props.place === state.place ? null : { error: undefined, place: props.place };
  }

  override render({ children }: Props, { error }: State) {
    return error === undefined ? (
      children
    ) : (
      <Failed error={error} onRetry={() => this.setState({ error: undefined })} />
    );
  }
}

function Failed({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  return (
    <Notice tone="bad" title="This screen failed. That is a fault of the console; drafts are kept.">
      <p>
        <code>{String(error)}</code>
      </p>
      <div class="buttons">
        <button type="button" onClick={onRetry}>
          Try again
        </button>
        <LoadAgain />
      </div>
    </Notice>
  );
}

export function LoadAgain() {
  return (
    <button type="button" onClick={() => location.reload()}>
      Load the page again
    </button>
  );
}

/** The last failure outside of rendering, such as that of a handler. */
const failure = signal<string | undefined>(undefined);

export function startFailures(): void {
  window.addEventListener("error", (event) => {
    // Browsers tell of this one for layouts that need another frame; nothing failed.
    if (!event.message.startsWith("ResizeObserver")) failure.value = event.message;
  });
  window.addEventListener("unhandledrejection", (event) => {
    if (!(event.reason instanceof DOMException && event.reason.name === "AbortError"))
      failure.value = String(event.reason);
  });
}

/** Tells of a failure that no screen shows. */
export function FailureNotice() {
  if (failure.value === undefined) return null;
  return (
    <Notice tone="bad" title="Something in this page failed. That is a fault of the console; drafts are kept.">
      <p>
        <code>{failure.value}</code>
      </p>
      <button
        type="button"
        onClick={() => {
          failure.value = undefined;
        }}
      >
        Dismiss
      </button>
    </Notice>
  );
}
