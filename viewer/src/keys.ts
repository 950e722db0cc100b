/** What a key means on the slide's page; pure. */

import type { Verdict } from "./types";

export type Meaning =
  | { do: "next" | "previous" | "undo" | "redo" | "note" | "help" | "escape" | "fly" }
  | { do: "next-slide" | "previous-slide" }
  | { do: "class"; key: string }
  | { do: "verdict"; verdict: Verdict }
  | { do: "press"; tool: string }
  | { do: "held" };

const PLAIN: Record<string, Meaning> = {
  j: { do: "next" },
  k: { do: "previous" },
  a: { do: "verdict", verdict: "agree" },
  x: { do: "verdict", verdict: "reject" },
  u: { do: "verdict", verdict: "unsure" },
  z: { do: "undo" },
  y: { do: "redo" },
  n: { do: "note" },
  d: { do: "press", tool: "draw" },
  r: { do: "press", tool: "region" },
  m: { do: "press", tool: "move" },
  h: { do: "press", tool: "heat" },
  c: { do: "press", tool: "picture" },
  b: { do: "press", tool: "boxes" },
  "]": { do: "next-slide" },
  "[": { do: "previous-slide" },
  "?": { do: "help" },
  Enter: { do: "fly" },
  Escape: { do: "escape" },
  ArrowRight: { do: "next" },
  ArrowLeft: { do: "previous" },
};

interface Pressed {
  key: string;
  repeat: boolean;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  shiftKey: boolean;
}

/** A key that stays down goes through cells, and does nothing else: what it would decide on next
 * has not been seen. */
export function keyOf(event: Pressed): Meaning | null {
  const meaning = meaningOf(event);
  if (!meaning || !event.repeat) return meaning;
  return meaning.do === "next" || meaning.do === "previous" ? meaning : { do: "held" };
}

function meaningOf(event: Pressed): Meaning | null {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.altKey) return null;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") return { do: event.shiftKey ? "redo" : "undo" };
    return key === "y" ? { do: "redo" } : null;
  }
  if (/^[1-9]$/.test(key)) return { do: "class", key };
  return PLAIN[key] ?? null;
}
