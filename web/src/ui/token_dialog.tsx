import { computed } from "@preact/signals";
import { useState } from "preact/hooks";
import { failure, RequestError, useToken } from "../api/client.ts";
import { whoami } from "../api/queries.ts";
import { enter, leave, route } from "../router.ts";
import { Dialog, ErrorSummary, Field } from "./elements.tsx";

/** The member of the query of any screen that asks for a token. */
export const ASK_TOKEN = "enter-token";
/** Whether the address asks for a token. */
export const asksToken = computed(() => ASK_TOKEN in route.value.query);

export function askToken(): void {
  enter({ [ASK_TOKEN]: "1" });
}

export function stopAskingToken(): void {
  leave(ASK_TOKEN);
}

/** Asks for a token, tries it, and keeps it for this tab or until the page is loaded again. */
export function TokenDialog({ onClose }: { onClose: () => void }) {
  const [value, setValue] = useState("");
  const [inMemory, setInMemory] = useState(false);
  const [error, setError] = useState<RequestError>();
  const [trying, setTrying] = useState(false);
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    const token = value.trim();
    setTrying(true);
    try {
      if (!/^[\x21-\x7e]+$/.test(token)) throw invalid();
      await whoami(undefined, token);
      useToken(token, { inMemory });
      onClose();
    } catch (reason) {
      setError(failure(reason));
    } finally {
      setTrying(false);
    }
  }
  return (
    <Dialog title="Enter a token" onClose={onClose}>
      <form onSubmit={submit}>
        {error !== undefined && <ErrorSummary error={error} />}
        <Field
          label="Token"
          hint={
            <>
              <code>aliciacfg token create</code> makes one, and so does the screen Tokens of an administrator.
            </>
          }
        >
          {({ id, hint }) => (
            <input
              id={id}
              aria-describedby={hint}
              type="password"
              autoComplete="off"
              required
              value={value}
              onInput={(event) => setValue(event.currentTarget.value)}
            />
          )}
        </Field>
        <fieldset class="choices">
          <legend>Keep it</legend>
          <label>
            <input type="radio" name="keep" checked={!inMemory} onChange={() => setInMemory(false)} /> as long as this
            tab is open
          </label>
          <label>
            <input type="radio" name="keep" checked={inMemory} onChange={() => setInMemory(true)} /> until the page is
            loaded again
          </label>
        </fieldset>
        <div class="buttons">
          <button type="submit" class="primary" disabled={trying}>
            Use it
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function invalid(): RequestError {
  return new RequestError("unauthorized", 0, "This cannot be a token: it has spaces, or letters beyond ASCII.", [], {});
}
