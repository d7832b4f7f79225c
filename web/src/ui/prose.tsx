/** A text in which backquotes mark code. */
export function Prose({ text }: { text: string }) {
  const parts = text.split(/`+([^`]+)`+/);
  return <>{parts.map((part, index) => (index % 2 === 1 ? <code key={`${index} ${part}`}>{part}</code> : part))}</>;
}
