/** What was done, where keyboard and screen reader are. */

import { useEffect, useRef } from "preact/hooks";
import { Notice } from "./elements.tsx";

export function Done({ message, onClose }: { message: string; onClose: () => void }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.focus(), [message]);
  return (
    <div tabIndex={-1} ref={box}>
      <Notice tone="good" title={message}>
        <div class="buttons">
          <button
            type="button"
            onClick={() => {
              onClose();
              document.getElementById("main")?.focus();
            }}
          >
            Close
          </button>
        </div>
      </Notice>
    </div>
  );
}
