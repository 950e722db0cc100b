/** Changes on their way to the server: in order, kept until it has answered, sent again if need be.
 *
 * A change carries an id of its own, so that one which arrived although the answer was lost does
 * nothing more when it is sent again. What waits is kept with the version on which it was decided:
 * sent by a window opened later, it does not write over what another has said in between. Each
 * window keeps a list of its own; one opened later takes over what it finds of others. Where such a
 * window still lives both send the same, which counts once.
 */

import { computed, signal } from "@preact/signals";
import { ApiError, isOther, OfflineError, post } from "./api";
import { t } from "./strings";
import type { CellDecision, Change, Delta, Reading, Round } from "./types";

export const EMPTY: Reading = {
  version: 0,
  cells: {},
  regions: {},
  slide: { adequacy: null, category: null, comment: "", signed: null },
  can_undo: false,
  can_redo: false,
  round: "reading",
};

/** A reading as it will be when what waits has arrived. Undo takes back what waits itself; what the
 * server has is taken back by the server's answer. */
export function project(reading: Reading, pending: readonly Change[]): Reading {
  const before: Reading[] = [];
  const after: Reading[] = [];
  let now = reading;
  for (const change of pending) {
    if (change.kind === "undo") {
      const last = before.pop();
      if (last) after.push(now);
      now = last ?? now;
    } else if (change.kind === "redo") {
      const next = after.pop();
      if (next) before.push(now);
      now = next ?? now;
    } else {
      before.push(now);
      after.length = 0;
      now = changed(now, change);
    }
  }
  if (!pending.length) return now;
  return {
    ...now,
    can_undo: before.length > 0 || reading.can_undo,
    can_redo: after.length > 0 || (before.length === 0 && reading.can_redo),
  };
}

/** What still waits when the first change was refused: the rest, but for what takes back the refused
 * one or brings it back. Else the server would take back what stood before it. */
export function withoutFirst(pending: readonly Change[]): Change[] {
  const [refused, ...rest] = pending;
  // What an undo or a redo would be about; undefined: something that the server has.
  const done: (Change | undefined)[] = [];
  let undone: (Change | undefined)[] = [];
  (refused?.kind === "undo" ? undone : done).push(refused);
  return rest.filter((change) => {
    if (change.kind !== "undo" && change.kind !== "redo") {
      done.push(change);
      undone = [];
      return true;
    }
    const [from, to] = change.kind === "undo" ? [done, undone] : [undone, done];
    const about = from.pop();
    to.push(about);
    return about === undefined || about !== refused;
  });
}

function changed(reading: Reading, change: Change): Reading {
  if (change.kind === "cell") {
    const decision = decided(reading.cells[change.key], change);
    return { ...reading, cells: { ...reading.cells, [change.key]: decision } };
  }
  if (change.kind === "region") {
    const { [change.key]: _, ...regions } = reading.regions;
    if (change.box) regions[change.key] = { box: change.box, note: change.note ?? "" };
    return { ...reading, regions };
  }
  const slide = { ...reading.slide };
  if (change.kind === "slide") {
    if (change.adequacy !== undefined) slide.adequacy = change.adequacy;
    if (change.category !== undefined) slide.category = change.category;
    if (change.comment !== undefined) slide.comment = change.comment ?? "";
  } else if (change.kind === "sign") {
    slide.signed = change.signed ? new Date().toISOString() : null;
  }
  return { ...reading, slide };
}

function decided(
  before: CellDecision | undefined,
  change: Extract<Change, { kind: "cell" }>,
): CellDecision {
  const said = change.said ?? before?.said ?? null;
  return {
    verdict: change.verdict,
    label: change.verdict === "agree" ? (said?.label ?? null) : (change.label ?? null),
    note: change.note ?? before?.note ?? "",
    box: change.box ?? before?.box ?? said?.box ?? [0, 0, 0, 0],
    said,
    at: "",
    seconds: change.seconds,
  };
}

/** A reading with what an answer says has changed; null says that something is gone. */
export function merge(reading: Reading, answer: Reading | Delta): Reading {
  if (!("delta" in answer) || !answer.delta) return answer as Reading;
  const { delta: _, cells, regions, ...frame } = answer;
  return {
    ...frame,
    cells: patched(reading.cells, cells),
    regions: patched(reading.regions, regions),
  };
}

function patched<T>(all: Record<string, T>, some: Record<string, T | null>): Record<string, T> {
  const now = { ...all };
  for (const [key, value] of Object.entries(some)) {
    if (value === null) delete now[key];
    else now[key] = value;
  }
  return now;
}

/** 32 hex digits of a random UUID (version 4). */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** This window among those of the browser. */
const WINDOW = newId();

const RETRY_MS = [500, 1000, 2000, 5000];

export interface Store {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

interface Kept {
  version: number;
  pending: Change[];
}

/** What to tell a person when a change did not go through. */
export interface Trouble {
  code: string;
  text: string;
  lost: number;
}

export interface Told {
  trouble: (trouble: Trouble) => void;
  answered?: (change: Change, before: Reading, now: Reading) => void;
  /** The server says that another reads here now, or nobody: nothing is sent till it is known who. */
  other?: (error: ApiError) => void;
}

/** Outboxes that a view has open, or that still send what was decided on a slide that was left. */
const live = signal<readonly Outbox[]>([]);

/** How many changes wait, of all slides. */
export const waiting = computed(() =>
  live.value.reduce((count, one) => count + one.pending.value.length, 0),
);

/** Why they do; null where nothing hinders them. */
export const hindrance = computed(
  () => live.value.map((one) => one.hindered.value).find((why) => why !== null) ?? null,
);

/** What did not go through of a slide that was left already. */
export const mishap = signal<string | null>(null);

/** Where what a reader of a folder has decided is kept; behind it come slide, round and window. */
function placeOf(room: string, reader: number): string {
  return `cytolibra-unsent:${room}:${reader}:`;
}

/** What begins so of the names under which something is kept. */
function namesIn(store: Store, begin: string): string[] {
  const names = Array.from({ length: store.length }, (_, i) => store.key(i) ?? "");
  return names.filter((name) => name.startsWith(begin));
}

/** The live outbox of a place, if there is one. */
function liveAt(place: string): Outbox | undefined {
  return live.peek().find((one) => one.place === place);
}

export class Outbox {
  readonly pending = signal<Change[]>([]);
  readonly reading = signal<Reading>(EMPTY);
  /** Why what waits is not with the server; null where nothing hinders it. */
  readonly hindered = signal<string | null>(null);
  /** Where all windows keep what is decided in this round of the slide. */
  readonly place: string;
  /** Where this window does. */
  private readonly own: string;
  /** Where there are lists that are sent, one after the other, when the one that waits is through. */
  private lists: string[] = [];
  /** Of the reading on which the first that waits was decided. */
  private version = 0;
  private sending = false;
  private running: Promise<void> | undefined;
  /** Whether a view that has it open does not know yet what the server knows. */
  private paused = false;
  /** Whether another reads in this browser now. */
  private stopped = false;
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param room tells what is decided in one folder from another's; see `Session.store`.
   * @param told the view that has it open; null where it only sends what was kept.
   * @param send posts a change; another one in tests.
   */
  constructor(
    private readonly slide: string,
    readonly round: Round,
    private readonly reader: number,
    room: string,
    private told: Told | null,
    private readonly store: Store = localStorage,
    private readonly send: (path: string, body: unknown) => Promise<Reading | Delta> = post,
  ) {
    this.place = `${placeOf(room, reader)}${slide}:${round}`;
    this.own = `${this.place}:${WINDOW}`;
    this.find();
    this.settle();
  }

  /** A view opens it: nothing is sent till it has said by `start` what the server knows. */
  async attach(told: Told): Promise<void> {
    this.told = told;
    this.paused = true;
    this.stopped = false;
    this.settle();
    await this.running;
  }

  start(reading: Reading): void {
    this.reading.value = reading;
    this.paused = false;
    void this.flush();
  }

  push(change: Change): void {
    if (!this.pending.value.length) this.version = this.reading.value.version;
    this.keep([...this.pending.value, change]);
    this.settle();
    void this.flush();
  }

  /** The view leaves, unless another has opened it since: what waits is sent all the same. */
  close(told: Told | null = this.told): void {
    if (told !== this.told) return;
    this.told = null;
    this.paused = false;
    this.settle();
    void this.flush();
  }

  /** Its reader is back. */
  resume(): void {
    this.stopped = false;
    this.find();
    void this.flush();
  }

  /** Sends what waits, one after the other. */
  async flush(): Promise<void> {
    if (this.sending || this.paused || this.stopped) return;
    this.running = this.drain();
    await this.running;
  }

  private async drain(): Promise<void> {
    this.sending = true;
    clearTimeout(this.timer);
    try {
      while (this.pending.value.length && !this.paused) {
        const change = this.pending.value[0] as Change;
        const { version, round, reader } = this;
        const body = { ...change, version, round, reader };
        const answer = await this.send(`/api/slides/${this.slide}/changes?delta=1`, body);
        this.arrived(change, answer);
      }
    } catch (error) {
      this.failed(error);
    } finally {
      this.sending = false;
      this.settle();
    }
  }

  /** Is among the live ones while there is a view, or something to send. */
  private settle(): void {
    const lives = this.told !== null || (this.pending.value.length > 0 && !this.stopped);
    const others = live.peek().filter((one) => one !== this);
    if (lives === others.length < live.peek().length) return;
    live.value = lives ? [...others, this] : others;
  }

  private tell(trouble: Trouble): void {
    if (this.told) this.told.trouble(trouble);
    else mishap.value = t("lostElsewhere", { n: trouble.lost, text: trouble.text });
  }

  private arrived(change: Change, answer: Reading | Delta): void {
    const before = this.reading.value;
    const now = merge(before, answer);
    // What waits behind builds on what this one made. The reading may be newer: of one that is sent
    // again after a lost answer another window can have written since, which is not written over.
    this.version += 1;
    this.hindered.value = null;
    this.tries = 0;
    this.reading.value = now;
    this.keep(this.pending.value.slice(1));
    this.told?.answered?.(change, before, now);
  }

  private failed(error: unknown): void {
    if (error instanceof OfflineError) return this.again("");
    if (!(error instanceof ApiError)) throw error;
    if (isOther(error)) {
      this.hindered.value = error.message;
      this.stopped = true;
      this.told?.other?.(error);
      return;
    }
    // Not in (any more), too busy, no room on the disk: what was decided is kept until it can go.
    if (error.status === 401 || error.status === 429 || error.status >= 500) {
      return this.again(error.message);
    }
    const waiting = this.pending.value;
    if (error.status === 409 && error.current) {
      // Somebody wrote in between: nothing that was decided on an older state is written over it.
      this.reading.value = error.current as Reading;
      this.keep([]);
      this.tell({ code: error.code, text: error.message, lost: waiting.length });
    } else {
      this.keep(withoutFirst(waiting));
      this.tell({ code: error.code, text: error.message, lost: 1 });
    }
    this.hindered.value = null;
    this.timer = setTimeout(() => void this.flush(), 0);
  }

  private again(why: string): void {
    this.hindered.value = why;
    const wait = RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)];
    this.timer = setTimeout(() => void this.flush(), wait);
  }

  private keep(pending: Change[]): void {
    this.save(pending);
    this.next();
  }

  /** Looks for what is kept of this round of the slide, by whatever window: the longest list first,
   * as of several that were decided on one state only one goes through. */
  private find(): void {
    const busy = this.pending.value.length > 0;
    const names = namesIn(this.store, this.place).filter((name) => name !== this.own || !busy);
    const length = (name: string) => this.kept(name)?.pending.length ?? 0;
    this.lists = names.sort((one, other) => length(other) - length(one));
    this.next();
  }

  /** Where nothing waits, the next list does that is kept. */
  private next(): void {
    while (!this.pending.value.length && this.lists.length) this.take(this.lists.shift() as string);
  }

  /** Makes a list this window's own. */
  private take(name: string): void {
    const kept = this.kept(name);
    if (!kept?.pending.length) return;
    this.version = kept.version;
    if (this.save(kept.pending) && name !== this.own) this.store.removeItem(name);
  }

  /** Whether it is kept for a window that is opened later. */
  private save(pending: Change[]): boolean {
    this.pending.value = pending;
    try {
      const kept: Kept = { version: this.version, pending };
      if (pending.length) this.store.setItem(this.own, JSON.stringify(kept));
      else this.store.removeItem(this.own);
      return true;
    } catch {
      return false; // no room, or none allowed: what waits is kept by this window alone
    }
  }

  private kept(name: string): Kept | null {
    try {
      const found = JSON.parse(this.store.getItem(name) ?? "null") as Kept | null;
      if (found && Array.isArray(found.pending) && Number.isInteger(found.version)) return found;
    } catch {
      // Not what this page has written: nothing waits.
    }
    return null;
  }
}

/** The outbox of a reading, for a view: the one that still sends where there is one. */
export async function openOutbox(
  slide: string,
  round: Round,
  reader: number,
  room: string,
  told: Told,
): Promise<Outbox> {
  const known = liveAt(`${placeOf(room, reader)}${slide}:${round}`);
  const outbox = known ?? new Outbox(slide, round, reader, room, null);
  await outbox.attach(told);
  return outbox;
}

/** Sends all that is kept of a reader, of whatever slide; `store` and `send` as of an outbox. */
export function resume(
  room: string,
  reader: number,
  store: Store = localStorage,
  send: (path: string, body: unknown) => Promise<Reading | Delta> = post,
): void {
  const mine = placeOf(room, reader);
  for (const name of namesIn(store, mine)) {
    const [slide, round] = name.slice(mine.length).split(":") as [string, Round];
    const known = liveAt(`${mine}${slide}:${round}`);
    (known ?? new Outbox(slide, round, reader, room, null, store, send)).resume();
  }
}
