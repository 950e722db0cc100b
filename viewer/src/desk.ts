/** One slide on the desk: what the server knows of it, what is chosen, and what was decided. */

import { computed, effect, signal } from "@preact/signals";
import { ApiError, binary, request, told } from "./api";
import { Attention } from "./attention";
import { type Cells, decodeCells } from "./cells";
import { centre, trim } from "./geometry";
import { newId, type Outbox, openOutbox, project, type Told } from "./outbox";
import { announce, asksWho, route, session } from "./state";
import { type StringKey, t } from "./strings";
import type {
  Box,
  CellClass,
  CellDecision,
  Change,
  Detail,
  Differences,
  GalleryCell,
  GalleryPage,
  Heat,
  Reading,
  Round,
  Said,
  SlideDecision,
  Task,
  Verdict,
} from "./types";

export type Mode = "look" | "draw" | "region" | "move";
/** What is asked, and of which cell or box: whatever is chosen or drawn by the time it is answered. */
export type Asked =
  | { name: "help" }
  | { name: "note"; cell: GalleryCell }
  | { name: "class"; box: Box };

export type GallerySort = "suspicion" | "score" | "place";

export const PAGE_SIZE = 48;
const PICTURE_PIXELS = 192;

/** How long nothing is typed until what was typed is sent. */
const PAUSE_MS = 1500;

/** A change without what is common to all. */
type Bare = Change extends infer One
  ? One extends Change
    ? Omit<One, "id" | "seconds" | "content" | "stamp">
    : never
  : never;

export class Desk {
  readonly detail = signal<Detail | null>(null);
  readonly cells = signal<Cells | null>(null);
  readonly gallery = signal<GalleryPage | null>(null);
  readonly group = signal("abnormal");
  readonly sort = signal<GallerySort>("suspicion");
  readonly page = signal(0);
  readonly chosen = signal<GalleryCell | null>(null);
  readonly heat = signal<Heat | null>(null);
  readonly showHeat = signal(false);
  readonly showBoxes = signal(true);
  readonly mode = signal<Mode>("look");
  readonly draft = signal<Box | null>(null);
  readonly dialog = signal<Asked | null>(null);
  readonly differences = signal<Differences | null>(null);
  readonly task = signal<Task | null>(null);
  readonly problem = signal<string | null>(null);
  readonly message = signal<string | null>(null);
  readonly round = signal<Round>("reading");
  readonly attention = new Attention();
  readonly outbox = signal<Outbox | null>(null);
  readonly reading = computed<Reading | null>(() => {
    const box = this.outbox.value;
    return box ? project(box.reading.value, box.pending.value) : null;
  });
  /** Decisions by the row of the cell that they are about, for drawing. */
  readonly byRow = computed(() => {
    const [cells, reading] = [this.cells.value, this.reading.value];
    const found = new Map<number, CellDecision>();
    if (!cells || !reading) return found;
    for (const [key, decision] of Object.entries(reading.cells)) {
      const row = decision.said ? cells.rowOf(key) : null;
      if (row !== null) found.set(row, decision);
    }
    return found;
  });
  /** The comment as it stands in its field while somebody is there: no answer writes over it. */
  readonly comment = signal<string | null>(null);
  /** Whether some of it has not been sent yet. */
  readonly isTyping = computed(
    () => this.comment.value !== null && this.comment.value !== this.reading.value?.slide.comment,
  );
  private pause: ReturnType<typeof setTimeout> | undefined;
  /** Set by the view: moves it to a place. */
  fly: (box: Box) => void = () => {};
  private turned = 0;
  /** The chosen cell while the page with the one after it is on its way: it is done with. */
  private left: GalleryCell | null = null;
  /** How often the reader has chosen, decided or begun something: an answer that comes later than
   * that changes nothing of what he is at. */
  private acts = 0;
  /** `acts` at the last undo or redo, which shows what it has changed. */
  private actsAtUndo = -1;
  private closed = false;
  /** The round that was asked for last; `round` is that which is open. */
  private wanted: Round = "reading";
  /** What the outbox tells; null once the slide is left. */
  private view: Told | null = null;
  private readonly stops: (() => void)[] = [];

  constructor(readonly id: string) {}

  get canWrite(): boolean {
    return !session.value?.read_only && !this.reading.value?.slide.signed;
  }

  /** The most severe first. */
  get classes(): CellClass[] {
    return this.detail.value?.classes ?? [];
  }

  /** By their labels. */
  readonly byLabel = computed(() => {
    const found: CellClass[] = [];
    for (const one of this.classes) found[one.index] = one;
    return found;
  });

  /** Whether a reader who has not begun may look at what the others differ on. */
  get mayAdjudicate(): boolean {
    const reading = this.reading.value;
    return reading !== null && reading.version === 0 && !session.value?.read_only;
  }

  classOf(label: string | null | undefined): CellClass | null {
    return this.classes.find((one) => one.name === label) ?? null;
  }

  /** The cells of the gallery's page, or those that the reader added. */
  get shown(): GalleryCell[] {
    return this.group.value === "added" ? this.added() : (this.gallery.value?.cells ?? []);
  }

  /** Pages of the group that is shown. */
  get pages(): number {
    return this.group.value === "added" ? 1 : (this.gallery.value?.pages ?? 1);
  }

  /** Chooses the cell that an address names; one that is not there is told. */
  chooseKey(key: string): void {
    const row = this.cells.value?.rowOf(key) ?? null;
    const added = this.added().find((one) => one.key === key);
    if (row !== null) this.chooseRow(row, true);
    else if (added) this.choose(added);
    else this.say(t("noCell"));
  }

  async open(task: number | null, key: string | null = null): Promise<void> {
    try {
      this.detail.value = await request<Detail>(`/api/slides/${this.id}`);
      await this.openRound("reading");
      let { acts } = this;
      if ((await this.turn("abnormal", 0)) && !this.gallery.value?.total) await this.turn("all", 0);
      if (task !== null) await this.openTask(task);
      if (acts === this.acts) {
        this.choose(this.shown[0] ?? null, task === null);
        if (this.task.value) this.fly(this.task.value.box);
        acts = this.acts;
      }
      const { width, height } = this.detail.value.size;
      const packed = await binary(`/api/slides/${this.id}/cells.bin`);
      this.cells.value = decodeCells(packed, width, height);
      if (key !== null && acts === this.acts) this.chooseKey(key);
    } catch (error) {
      if (!asksWho(error)) this.problem.value = told(error);
    }
  }

  async openRound(round: Round): Promise<void> {
    const reader = session.value?.reader;
    if (!reader || this.closed) return; // who only looks has no reading
    this.wanted = round;
    this.leaveRound();
    const room = session.value?.store ?? "";
    const view: Told = {
      trouble: ({ code, text, lost }) =>
        this.say(code === "stale" ? `${t("stale")} ${t("lost", { n: lost })}` : text),
      answered: (change, before, now) => this.answered(change, before, now),
      other: asksWho,
    };
    this.view = view;
    const outbox = await openOutbox(this.id, round, reader.id, room, view);
    try {
      const query = `round=${round}&reader=${reader.id}`;
      const reading = await request<Reading>(`/api/slides/${this.id}/reading?${query}`);
      if (this.view !== view) return outbox.close(view); // left, or another round was opened since
      outbox.start(reading);
    } catch (error) {
      outbox.close(view);
      if (this.view === view) throw error;
      return;
    }
    this.outbox.value = outbox;
    this.round.value = round;
  }

  /** Nothing that is said from now on is said in the round that was open. */
  private leaveRound(): void {
    if (this.outbox.value) {
      this.leaveComment();
      this.comment.value = null;
      this.dialog.value = null;
      this.look();
    }
    if (this.view) this.outbox.value?.close(this.view);
    this.outbox.value = null;
  }

  /** The gallery is shown again: what is said there belongs to the reader's own reading. */
  async leaveDifferences(): Promise<void> {
    if (this.wanted === "reading") return;
    try {
      await this.openRound("reading");
    } catch (error) {
      if (!asksWho(error)) this.say(t("error", { text: told(error) }));
    }
  }

  close(): void {
    this.leaveComment();
    this.closed = true;
    if (this.view) this.outbox.value?.close(this.view);
    this.view = null;
    for (const stop of this.stops) stop();
  }

  watch(what: () => void): void {
    this.stops.push(effect(what));
  }

  say(text: string): void {
    this.message.value = text;
    announce(text);
  }

  /** Shows a page of a group; false where another was asked for since, or it could not be had. */
  async turn(group: string, page: number, sort = this.sort.value): Promise<boolean> {
    const turned = ++this.turned;
    if (group !== "added") {
      const query = new URLSearchParams({ group, sort, page: `${page}`, size: `${PAGE_SIZE}` });
      try {
        const found = await request<GalleryPage>(`/api/slides/${this.id}/gallery?${query}`);
        if (turned !== this.turned) return false;
        this.gallery.value = found;
      } catch (error) {
        this.say(t("error", { text: told(error) }));
        return false;
      }
    }
    this.group.value = group;
    this.sort.value = sort;
    this.page.value = page;
    return true;
  }

  /** Shows a page of a group and chooses its first cell, unless the reader is at something since. */
  async openGroup(group: string, page = 0, sort = this.sort.value): Promise<void> {
    const { acts } = this;
    if (!(await this.turn(group, page, sort))) return;
    if (acts === this.acts) this.choose(this.shown[0] ?? null);
  }

  choose(cell: GalleryCell | null, flying = true): void {
    this.acts++;
    this.chosen.value = cell;
    this.look();
    this.attention.restart();
    if (cell && flying) this.fly(this.boxOf(cell));
  }

  /** Chooses a cell by its place among all; `flying` moves the slide there. */
  chooseRow(row: number, flying = false): void {
    const here = this.shown.find((cell) => cell.number === row + 1);
    const cell = here ?? this.cellOf(row);
    if (cell) this.choose(cell, flying);
  }

  /** A cell that is not on the gallery's page, of what the slide's arrays tell. */
  cellOf(row: number): GalleryCell | null {
    const cells = this.cells.value;
    if (!cells) return null;
    const label = this.byLabel.value[cells.labels[row] as number]?.name ?? "";
    const key = cells.key(row);
    const um = this.gallery.value?.um ?? 48;
    return {
      key,
      number: row + 1,
      box: cells.box(row),
      label,
      score: cells.scores[row] as number,
      abnormal_score: null,
      scores: null,
      grades: null,
      carrier: false,
      why: this.expected(label),
      picture: `/api/slides/${this.id}/cells/${key}/picture.jpg?um=${um}`,
    };
  }

  /** What is told of a cell below the pointer: number, class, score, why, what was decided. */
  context(row: number): string {
    const cell = this.shown.find((one) => one.number === row + 1) ?? this.cellOf(row);
    if (!cell) return "";
    const decision = this.byRow.value.get(row);
    const head = `${cellName(cell)}: ${cell.label} ${trim(cell.score ?? 0, 2)}`;
    const said = decision ? [verdictText(decision.verdict, decision.label)] : [];
    return [head, ...cell.why, ...said].join("\n");
  }

  /** What a slide with so many cells of a class says for or against one of them. */
  private expected(label: string): string[] {
    const found = this.detail.value?.expectation.filter((one) => one.group === label) ?? [];
    return found.map((one) => `${label}: ${one.text}`);
  }

  /** Undo and redo show what they have changed, where the reader still waits for it. */
  answered(change: Change, before: Reading, now: Reading): void {
    if (change.kind !== "undo" && change.kind !== "redo") return;
    if (this.acts !== this.actsAtUndo || this.dialog.value || this.mode.value !== "look") return;
    // A change that was sent again is answered by the whole reading: all of it is other objects.
    const differs = (key: string) => {
      const [one, other] = [before.cells[key], now.cells[key]];
      return one !== other && JSON.stringify(one) !== JSON.stringify(other);
    };
    const key = [...Object.keys(now.cells), ...Object.keys(before.cells)].find(differs);
    if (!key) return;
    const row = this.cells.value?.rowOf(key) ?? null;
    const cell = this.shown.find((one) => one.key === key);
    if (cell) this.choose(cell);
    else if (row !== null) this.chooseRow(row, true);
    this.actsAtUndo = this.acts; // the answer to a second undo goes on from there
  }

  /** Where a cell is now: its reader may have moved it. */
  boxOf(cell: GalleryCell): Box {
    return this.reading.value?.cells[cell.key]?.box ?? cell.box;
  }

  /** Whether the chosen cell is left for one that is on its way: keys are not about it any more. */
  get isLeaving(): boolean {
    return this.left !== null && this.chosen.value === this.left;
  }

  /** The next or previous cell, on the next or previous page where this one ends. */
  async step(by: 1 | -1): Promise<void> {
    if (this.isLeaving) return;
    const cells = this.shown;
    const place = cells.findIndex((cell) => cell.key === this.chosen.value?.key);
    const next = place + by;
    if (next >= 0 && next < cells.length) {
      this.choose(cells[next] ?? null);
      return this.tellChosen();
    }
    const page = this.page.value + by;
    if (page < 0 || page >= this.pages) return announce(t(page < 0 ? "atFirst" : "atLast"));
    this.look();
    this.left = this.chosen.value;
    const turned = await this.turn(this.group.value, page);
    const stays = this.isLeaving; // else somebody has chosen another one meanwhile
    this.left = null;
    if (!turned || !stays) return;
    const found = this.shown.at(by === 1 ? 0 : -1) ?? null;
    if (this.mode.value === "look") this.choose(found);
    else this.chosen.value = found; // something is drawn by now: it stays, and so does the view
    this.tellChosen();
  }

  /** Tells why nothing can be decided, where that is so. */
  private refuses(): boolean {
    if (this.canWrite && this.outbox.value) return false;
    const signed = Boolean(this.reading.value?.slide.signed) && !session.value?.read_only;
    announce(t(signed ? "signedLocked" : "readOnly"));
    return true;
  }

  private tellChosen(): void {
    const cell = this.chosen.value;
    if (!cell) return;
    const decision = this.reading.value?.cells[cell.key];
    const said = verdictText(decision?.verdict ?? "none", decision?.label ?? null);
    announce(`${cellName(cell)}, ${cell.label}, ${said}`);
  }

  decide(verdict: Verdict, label: string | null = null, onward = true): void {
    const cell = this.chosen.value;
    if (!cell || this.isLeaving || this.refuses()) return;
    const added = cell.number === null;
    const change: Bare =
      added && (verdict === "class" || verdict === "agree")
        ? { kind: "cell", key: cell.key, verdict: "added", label: label ?? cell.label }
        : added && (verdict === "reject" || verdict === "none") && this.round.value === "reading"
          ? { kind: "cell", key: cell.key, verdict: "removed" }
          : { kind: "cell", key: cell.key, verdict, label, said: this.saidOf(cell) };
    this.push(change);
    announce(verdictText(verdict, label));
    const listed = this.round.value === "reading" && this.shown.some((one) => one.key === cell.key);
    if (onward && listed) void this.step(1);
    else this.attention.restart();
  }

  /** Decides for the class of a number key; keys are the server's, by severity. */
  decideKey(key: string): void {
    const named = this.classes.find((one) => one.key === key);
    if (named) this.decideClass(named);
  }

  decideClass(named: CellClass): void {
    if (this.dialog.value?.name === "class") return this.addDrawn(named.name);
    const same = named.name === this.chosen.value?.label && this.chosen.value.number !== null;
    this.decide(same ? "agree" : "class", same ? null : named.name);
  }

  openNote(): void {
    const cell = this.chosen.value;
    if (!this.canWrite || !cell || this.isLeaving) return;
    this.acts++;
    this.dialog.value = { name: "note", cell };
  }

  note(cell: GalleryCell, text: string): void {
    this.push({ ...this.asDecided(cell), note: text });
  }

  /** Takes the last change back; that of a signature, too. */
  undo(): void {
    if (session.value?.read_only) return announce(t("readOnly"));
    if (!this.reading.value?.can_undo) return announce(t("nothingToUndo"));
    this.push({ kind: "undo" });
    this.actsAtUndo = this.acts;
    announce(t("undone"));
  }

  redo(): void {
    if (session.value?.read_only) return announce(t("readOnly"));
    if (!this.reading.value?.can_redo) return announce(t("nothingToRedo"));
    this.push({ kind: "redo" });
    this.actsAtUndo = this.acts;
    announce(t("redone"));
  }

  /** What was drawn is kept: a cell asks for its class first. */
  keepDraft(): void {
    const [box, mode] = [this.draft.value, this.mode.value];
    if (!box) return;
    if (mode === "draw") {
      this.dialog.value = { name: "class", box };
    } else if (mode === "region") {
      this.push({ kind: "region", key: `r${newId()}`, box });
      announce(t("regionMarked"));
      this.look();
    } else if (mode === "move") {
      this.moveTo(box);
    }
  }

  /** Adds the cell whose class is asked for. */
  addDrawn(label: string): void {
    const asked = this.dialog.value;
    if (asked?.name !== "class") return;
    const { box } = asked;
    const key = `a${newId()}`;
    this.push({ kind: "cell", key, verdict: "added", label, box });
    announce(t("verdict_added", { label }));
    this.dialog.value = null;
    this.look();
    const cell = this.added().find((one) => one.key === key);
    if (cell) this.choose(cell, false);
  }

  removeRegion(key: string): void {
    this.push({ kind: "region", key, box: null });
  }

  look(): void {
    this.mode.value = "look";
    this.draft.value = null;
  }

  begin(mode: Exclude<Mode, "look">, box: Box | null): void {
    if (!this.canWrite || (mode === "move" && this.isLeaving)) return;
    this.acts++;
    this.mode.value = mode;
    this.draft.value = box;
    announce(t(mode === "draw" ? "drawHelp" : mode === "region" ? "regionHelp" : "moveHelp"));
  }

  ofSlide(change: Partial<Omit<SlideDecision, "signed">>): void {
    this.push({ kind: "slide", ...change });
  }

  /** The comment is being typed. */
  typeComment(text: string): void {
    this.comment.value = text;
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.sendComment(), PAUSE_MS);
  }

  /** Sends what was typed of the comment and is not on its way. */
  sendComment(): void {
    clearTimeout(this.pause);
    const text = this.comment.value;
    if (text !== null && this.isTyping.value && this.canWrite) this.ofSlide({ comment: text });
  }

  /** Nobody types any more: what was typed is sent, and the field shows what holds. */
  leaveComment(): void {
    this.sendComment();
    if (!this.isTyping.value) this.comment.value = null;
  }

  sign(signed: boolean): void {
    this.sendComment(); // of what is signed nothing can be sent
    this.push({ kind: "sign", signed });
    announce(t(signed ? "signed" : "unsigned"));
  }

  /** @param adjudicate who has not read the slide looks: he can't read it blind any more. */
  async loadDifferences(adjudicate = false): Promise<void> {
    const reader = session.value?.reader;
    const query = new URLSearchParams({ adjudicate: adjudicate ? "1" : "0" });
    if (reader) query.set("reader", `${reader.id}`);
    try {
      const found = await request<Differences>(`/api/slides/${this.id}/differences?${query}`);
      this.differences.value = found;
      const where = route.value; // he may have gone back to the gallery since
      const stays = where.at === "slide" && where.id === this.id && where.differences;
      if (found.open && stays) await this.openRound("adjudication");
    } catch (error) {
      if (!asksWho(error)) throw error;
    }
  }

  /** Goes to a cell that readers differ on: keys are about what is shown. */
  showPlace(key: string, box: Box): void {
    const row = this.cells.value?.rowOf(key) ?? null;
    if (row !== null) this.chooseRow(row);
    else this.choose(this.added().find((one) => one.key === key) ?? null);
    this.fly(box);
  }

  /** Settles a difference as one of the readers, or as another class, would have it.
   *
   * @param seen what the report said to the reader who is agreed with.
   */
  adjudicate(
    key: string,
    box: Box | null,
    verdict: Verdict,
    label: string | null,
    seen: Said | null = null,
  ): void {
    const said = seen ?? undefined;
    this.push({ kind: "cell", key, verdict, label, said, box: box ?? undefined });
  }

  async toggleHeat(): Promise<void> {
    this.showHeat.value = !this.showHeat.value;
    if (this.heat.value || !this.showHeat.value) return;
    try {
      this.heat.value = await request<Heat>(`/api/slides/${this.id}/heat`);
    } catch (error) {
      this.showHeat.value = false;
      if (error instanceof ApiError) this.say(error.message);
      else throw error;
    }
  }

  push(change: Bare): void {
    const outbox = this.outbox.value;
    if (!outbox || session.value?.read_only) return;
    this.acts++;
    this.message.value = null;
    const seen = { content: this.detail.value?.key, stamp: this.detail.value?.stamp };
    outbox.push({ ...change, ...seen, id: newId(), seconds: this.attention.seconds() } as Change);
  }

  private moveTo(box: Box): void {
    const cell = this.chosen.value;
    if (!cell) return;
    this.push({ ...this.asDecided(cell), box });
    announce(t("boxMoved"));
    this.look();
  }

  /** The change that says of a cell what is said of it already. */
  private asDecided(cell: GalleryCell): Bare & { kind: "cell" } {
    const now = this.reading.value?.cells[cell.key];
    const verdict = now?.verdict ?? "none";
    const label = verdict === "class" || verdict === "added" ? (now?.label ?? null) : null;
    return { kind: "cell", key: cell.key, verdict, label, said: this.saidOf(cell) };
  }

  private saidOf(cell: GalleryCell): { label: string; score: number; box: Box } | undefined {
    if (cell.number === null || cell.score === null) return undefined;
    return { label: cell.label, score: cell.score, box: cell.box };
  }

  /** Cells that the reader drew, those included that are on their way. */
  added(): GalleryCell[] {
    const cells = Object.entries(this.reading.value?.cells ?? {});
    return cells
      .filter(([, decision]) => decision.verdict === "added")
      .map(([key, decision]) => ({
        key,
        number: null,
        box: decision.box,
        label: decision.label ?? "",
        score: null,
        abnormal_score: null,
        scores: null,
        grades: null,
        carrier: false,
        why: [],
        picture: this.picture(decision.box),
      }));
  }

  private picture(box: Box): string {
    const half = (this.gallery.value?.um ?? 48) / (this.detail.value?.mpp ?? 1) / 2;
    const [x, y] = centre(box);
    const sides = [x - half, y - half, x + half, y + half].map((side) => side.toFixed(1));
    const [x0, y0, x1, y1] = sides;
    const query = `x0=${x0}&y0=${y0}&x1=${x1}&y1=${y1}&px=${PICTURE_PIXELS}`;
    return `/api/slides/${this.id}/crop.jpg?${query}`;
  }

  private async openTask(id: number): Promise<void> {
    const { tasks } = await request<{ tasks: Task[] }>("/api/tasks");
    this.task.value = tasks.find((one) => one.id === id) ?? null;
  }
}

export function cellName(cell: GalleryCell): string {
  return cell.number === null ? t("addedCell") : t("cellNumber", { n: cell.number });
}

export function verdictText(verdict: Verdict, label: string | null): string {
  return t(`verdict_${verdict}` as StringKey, { label: label ?? "" });
}
