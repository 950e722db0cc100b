/** Changes on their way to the server: in order, kept until it has answered, sent again if need be.
 *
 * A change carries an id of its own, so that one which arrived although the answer was lost does
 * nothing more when it is sent again.
 */

import { signal } from "@preact/signals";
import { ApiError, OfflineError, post } from "./api";
import type { CellDecision, Change, Reading, Round } from "./types";

export const EMPTY: Reading = {
  version: 0,
  cells: {},
  regions: {},
  slide: { adequacy: null, category: null, comment: "", signed: null },
  can_undo: false,
  can_redo: false,
  round: "reading",
};

/** A reading as it will be when what is on its way has arrived; undo and redo are the server's. */
export function project(reading: Reading, pending: readonly Change[]): Reading {
  if (!pending.length) return reading;
  const cells = { ...reading.cells };
  const regions = { ...reading.regions };
  const slide = { ...reading.slide };
  for (const change of pending) {
    if (change.kind === "cell") {
      cells[change.key] = decided(cells[change.key], change);
    } else if (change.kind === "region") {
      if (change.box) regions[change.key] = { box: change.box, note: change.note ?? "" };
      else delete regions[change.key];
    } else if (change.kind === "slide") {
      if (change.adequacy !== undefined) slide.adequacy = change.adequacy;
      if (change.category !== undefined) slide.category = change.category;
      if (change.comment !== undefined) slide.comment = change.comment ?? "";
    } else if (change.kind === "sign") {
      slide.signed = change.signed ? "…" : null;
    }
  }
  return { ...reading, cells, regions, slide, can_undo: true, can_redo: false };
}

function decided(
  before: CellDecision | undefined,
  change: Extract<Change, { kind: "cell" }>,
): CellDecision {
  const said = change.said ?? before?.said ?? null;
  const label = change.verdict === "agree" ? (said?.label ?? null) : (change.label ?? null);
  return {
    verdict: change.verdict,
    label,
    note: change.note ?? before?.note ?? "",
    box: change.box ?? before?.box ?? said?.box ?? [0, 0, 0, 0],
    said,
    at: "",
    seconds: change.seconds,
  };
}

export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const RETRY_MS = [500, 1000, 2000, 5000];

export interface Store {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export class Outbox {
  readonly pending = signal<Change[]>([]);
  readonly reading = signal<Reading>(EMPTY);
  readonly offline = signal(false);
  private sending = false;
  private closed = false;
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly place: string;

  /**
   * @param tell what a person should know: a change was refused, or another window wrote.
   * @param send posts a change; another one in tests.
   */
  constructor(
    private readonly slide: string,
    readonly round: Round,
    reader: number,
    folder: string,
    private readonly tell: (text: string, code: string) => void,
    private readonly store: Store = localStorage,
    private readonly send: (path: string, body: unknown) => Promise<Reading> = post,
  ) {
    this.place = `cytolibra-unsent:${folder}:${reader}:${slide}:${round}`;
    this.pending.value = this.kept();
  }

  start(reading: Reading): void {
    this.reading.value = reading;
    void this.flush();
  }

  push(change: Change): void {
    this.keep([...this.pending.value, change]);
    void this.flush();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }

  /** Sends what waits, one after the other. */
  async flush(): Promise<void> {
    if (this.sending || this.closed) return;
    this.sending = true;
    clearTimeout(this.timer);
    try {
      while (this.pending.value.length && !this.closed) {
        const change = this.pending.value[0] as Change;
        const body = { ...change, version: this.reading.value.version, round: this.round };
        this.reading.value = await this.send(`/api/slides/${this.slide}/changes`, body);
        this.keep(this.pending.value.slice(1));
        this.offline.value = false;
        this.tries = 0;
      }
    } catch (error) {
      this.failed(error);
    } finally {
      this.sending = false;
    }
  }

  private failed(error: unknown): void {
    const status = error instanceof ApiError ? error.status : 0;
    if (error instanceof OfflineError || status === 503 || status === 429 || status === 500) {
      this.offline.value = true;
      if (error instanceof ApiError) this.tell(error.message, error.code);
      const wait = RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)];
      this.timer = setTimeout(() => void this.flush(), wait);
      return;
    }
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 409 && error.current) {
      // Somebody wrote in between: nothing that was decided on an older state is written over it.
      this.reading.value = error.current as Reading;
      this.keep([]);
    } else {
      this.keep(this.pending.value.slice(1));
      this.timer = setTimeout(() => void this.flush(), 0);
    }
    this.tell(error.message, error.code);
  }

  private keep(pending: Change[]): void {
    this.pending.value = pending;
    try {
      if (pending.length) this.store.setItem(this.place, JSON.stringify(pending));
      else this.store.removeItem(this.place);
    } catch {
      // No room, or none allowed: what waits is kept by this window alone.
    }
  }

  private kept(): Change[] {
    try {
      const found = JSON.parse(this.store.getItem(this.place) ?? "[]");
      return Array.isArray(found) ? (found as Change[]) : [];
    } catch {
      return [];
    }
  }
}
