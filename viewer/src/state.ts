/** What the page knows beyond one slide: who reads, where it is, what it last said. */

import { signal } from "@preact/signals";
import { ApiError, isOther, request, told } from "./api";
import type { Session, SlideList } from "./types";

export type Route =
  | { at: "worklist" }
  | { at: "tasks" }
  | { at: "slide"; id: string; key: string | null; task: number | null; differences: boolean };

export const session = signal<Session | null>(null);
export const list = signal<SlideList | null>(null);
export const route = signal<Route>(parseRoute(location.hash));
export const announced = signal("");
export const failure = signal<string | null>(null);
/** Why it is asked anew who reads. */
export const asked = signal("");
export const refused = signal(false);

/** Says something to whoever can't see it, and shows it for a while to whoever can. */
export function announce(text: string): void {
  announced.value = "";
  saying.push(text);
  if (saying.length > 1) return; // goes with what is said at the same moment
  queueMicrotask(() => {
    announced.value = saying.splice(0).join(". ");
  });
}

const saying: string[] = [];

export function parseRoute(hash: string): Route {
  const parts = hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  if (parts[0] === "tasks") return { at: "tasks" };
  if (parts[0] !== "slide" || !parts[1]) return { at: "worklist" };
  return {
    at: "slide",
    id: parts[1],
    key: parts[2] === "cell" ? (parts[3] ?? null) : null,
    task: parts[2] === "task" ? Number(parts[3]) : null,
    differences: parts[2] === "differences",
  };
}

export function go(to: string): void {
  location.hash = to;
}

export async function loadSession(): Promise<void> {
  try {
    session.value = await request<Session>("/api/session");
    failure.value = null;
  } catch (error) {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
      refused.value = true;
    } else {
      failure.value = told(error);
    }
  }
}

/** Asks who reads, where a refusal says that the server believes it is another, or nobody. */
export function asksWho(error: unknown): boolean {
  if (!(error instanceof ApiError) || !isOther(error) || !session.value?.reader) return false;
  session.value = { ...session.value, reader: null };
  asked.value = error.message;
  return true;
}

export async function loadList(): Promise<void> {
  try {
    list.value = await request<SlideList>("/api/slides");
    failure.value = null;
  } catch (error) {
    failure.value = told(error);
  }
}

window.addEventListener("hashchange", () => {
  route.value = parseRoute(location.hash);
});
