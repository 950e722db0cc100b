/** Which slides of the work list are shown, and in which order; pure. */

import type { SlideRow } from "./types";

export type Sort = "suspicion" | "name" | "cells" | "state";

export interface Wanted {
  search: string;
  state: string;
  flag: string;
  sort: Sort;
}

const STATES = ["unread", "begun", "differs", "signed", "adjudicated"];

export function choose(slides: readonly SlideRow[], wanted: Wanted): SlideRow[] {
  const words = wanted.search.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = slides.filter(
    (slide) =>
      (!wanted.state || slide.review.state === wanted.state) &&
      (!wanted.flag || slide.flags.includes(wanted.flag)) &&
      words.every((word) => searched(slide).includes(word)),
  );
  if (wanted.sort === "name") shown.sort((a, b) => a.name.localeCompare(b.name));
  if (wanted.sort === "cells") shown.sort((a, b) => (b.abnormal ?? -1) - (a.abnormal ?? -1));
  if (wanted.sort === "state") {
    shown.sort((a, b) => STATES.indexOf(a.review.state) - STATES.indexOf(b.review.state));
  }
  return shown; // by suspicion: as they come
}

function searched(slide: SlideRow): string {
  const told = slide.warnings.map((one) => `${one.code} ${one.text}`).join(" ");
  return `${slide.name} ${slide.path} ${slide.category} ${slide.error} ${told}`.toLowerCase();
}

/** The first slide after one that nobody asked has begun, by suspicion; from the top again. */
export function nextUnread(slides: readonly SlideRow[], after: string | null): string | null {
  const unread = (slide: SlideRow) =>
    slide.status === "complete" && slide.review.mine === "unread" && slide.id !== after;
  const place = slides.findIndex((slide) => slide.id === after);
  const [head, tail] = [slides.slice(0, place + 1), slides.slice(place + 1)];
  return (tail.find(unread) ?? head.find(unread))?.id ?? null;
}

/** The rows that a window of a long list shows. */
export function inWindow(
  scroll: number,
  height: number,
  row: number,
  count: number,
  spare = 6,
): [number, number] {
  const first = Math.max(0, Math.floor(scroll / row) - spare);
  const last = Math.min(count, Math.ceil((scroll + height) / row) + spare);
  return [Math.min(first, count), last];
}
