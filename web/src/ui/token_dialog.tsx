import { useState } from "preact/hooks";
import { RequestError, request, token, useToken } from "../api/client.ts";
import { Dialog, ErrorSummary, Field } from "./elements.tsx";

/** Asks for a token, tries it, and keeps it for this tab. */
export function TokenDialog({ onClose }: { onClose: () => void }) {
  const [value, setValue] = useState("");
  const [error, setError] = useState<RequestError>();
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    const before = token.peek();
    useToken(value.trim());
    try {
      await request("GET", "/environments");
      onClose();
    } catch (reason) {
      useToken(before);
      if (reason instanceof RequestError) setError(reason);
    }
  }
  return (
    <Dialog title="Token" onClose={onClose}>
      <form onSubmit={submit}>
        {error !== undefined && <ErrorSummary error={error} />}
        <Field label="Token" hint="aliciacfg token create makes one. It is kept for this tab only.">
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
        <div class="buttons">
          <button type="submit" class="primary">
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
