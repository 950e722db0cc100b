import { describe, expect, it, vi } from "vitest";
import type { Desk } from "./desk";
import { EMPTY, Outbox, type Store } from "./outbox";
import type {
  Box,
  Change,
  Difference,
  GalleryCell,
  GalleryPage,
  Reading,
  Session,
  View,
} from "./types";

vi.stubGlobal("location", { hash: "" });
vi.stubGlobal("window", { addEventListener: () => {} });
const { take } = await import("./differences");
const { Desk: OneDesk } = await import("./desk");
const { route, session } = await import("./state");

describe("take", () => {
  it("decides at the place where that reader has the cell", () => {
    const [first, second]: Box[] = [
      [1, 1, 9, 9],
      [5, 5, 13, 13],
    ];
    const said = { label: "LSIL", score: 0.8, box: first as Box };
    const rest = { mine: false, call: "LSIL", label: "LSIL", note: "", said };
    const view = (reader: string, verdict: View["verdict"], box: Box | null): View =>
      ({ ...rest, reader, verdict, box }) as View;
    const of: Difference = { subject: "cell", key: "k", box: first as Box, views: [] };
    const adjudicate = vi.fn();
    const desk = { adjudicate } as unknown as Desk;
    const verdicts = ["agree", "class", "added", "reject", "unsure"] as const;
    for (const verdict of verdicts) take(desk, of, view("B", verdict, second as Box));
    expect(adjudicate.mock.calls.map((call) => call[1])).toEqual(verdicts.map(() => second));
    expect(adjudicate.mock.calls[0]?.[4]).toEqual(said);
    take(desk, { ...of, key: "a1" }, view("C", null, null));
    expect(adjudicate.mock.lastCall?.slice(1, 3)).toEqual([first, "removed"]);
  });

  it("decides nothing by who said nothing", () => {
    const [adjudicate, ofSlide] = [vi.fn(), vi.fn()];
    const desk = { adjudicate, ofSlide } as unknown as Desk;
    const silent = { reader: "C", call: null, verdict: null, label: null, box: null } as View;
    for (const subject of ["cell", "slide", "adequacy"] as const) {
      take(desk, { subject, key: subject === "cell" ? "k" : "", box: null, views: [] }, silent);
    }
    expect([adjudicate.mock.calls, ofSlide.mock.calls]).toEqual([[], []]);
  });
});

it("sends with a change what slide and report were shown", () => {
  const desk = new OneDesk("s");
  const push = vi.fn();
  desk.outbox.value = { reading: { value: EMPTY }, pending: { value: [] }, push } as never;
  desk.detail.value = { key: "sha", stamp: "sha-1" } as never;
  desk.ofSlide({ category: "NILM" });
  expect(push.mock.calls[0]?.[0]).toMatchObject({ content: "sha", stamp: "sha-1" });
});

describe("Desk", () => {
  const pageOf = (...keys: string[]) =>
    ({
      cells: keys.map((key, i) => ({ key, number: i + 1, label: "LSIL", score: 0.8, box: [] })),
      pages: 2,
    }) as unknown as GalleryPage;

  function onTheLastOfItsPage() {
    const desk = new OneDesk("s");
    const sent: Change[] = [];
    const push = (change: Change) => void sent.push(change);
    const known = { reading: { value: EMPTY }, pending: { value: [] }, push };
    desk.outbox.value = known as unknown as Outbox;
    desk.gallery.value = pageOf("a", "b");
    desk.choose(desk.shown[1] as GalleryCell);
    let answer: (response: unknown) => void = () => {};
    const response = new Promise((resolve) => {
      answer = resolve;
    });
    vi.stubGlobal("fetch", () => response);
    const arrive = async (ok = true) => {
      answer({ ok, json: async () => pageOf("c", "d") });
      await new Promise((resolve) => setTimeout(resolve, 0));
    };
    const keys = () => sent.map((change) => "key" in change && change.key);
    return { desk, keys, arrive };
  }

  it("takes no key for the cell that it has left while the next page is on its way", async () => {
    const { desk, keys, arrive } = onTheLastOfItsPage();
    desk.decide("agree");
    desk.decide("reject");
    desk.openNote();
    void desk.step(1);
    expect(keys()).toEqual(["b"]);
    expect(desk.dialog.value).toBeNull();
    await arrive();
    expect(desk.chosen.value?.key).toBe("c");
    desk.decide("reject");
    expect(keys()).toEqual(["b", "c"]);
  });

  it("keeps what is chosen meanwhile, and the last cell where no page came", async () => {
    const { desk, keys, arrive } = onTheLastOfItsPage();
    desk.decide("agree");
    desk.choose(desk.shown[0] as GalleryCell);
    await arrive();
    expect(desk.chosen.value?.key).toBe("a");
    const other = onTheLastOfItsPage();
    other.desk.decide("agree");
    await other.arrive(false);
    other.desk.decide("reject");
    expect(other.keys()).toEqual(["b", "b"]);
    expect(keys()).toEqual(["b"]);
  });

  it("leaves what is drawn meanwhile, and moves no box of the cell that it has left", async () => {
    const { desk, keys, arrive } = onTheLastOfItsPage();
    desk.decide("agree");
    desk.begin("move", [0, 0, 9, 9]);
    expect(desk.mode.value).toBe("look");
    desk.begin("draw", [1, 1, 9, 9]);
    desk.keepDraft();
    await arrive();
    expect([desk.mode.value, desk.draft.value]).toEqual(["draw", [1, 1, 9, 9]]);
    expect(desk.chosen.value?.key).toBe("c");
    desk.addDrawn("LSIL");
    expect(keys().length).toBe(2);
  });

  it("chooses the first of a group, unless another one was chosen meanwhile", async () => {
    const { desk, arrive } = onTheLastOfItsPage();
    const opened = desk.openGroup("all");
    desk.choose(desk.shown[0] as GalleryCell);
    await arrive();
    await opened;
    expect([desk.chosen.value?.key, desk.group.value]).toEqual(["a", "all"]);
    await desk.openGroup("all");
    expect(desk.chosen.value?.key).toBe("c");
  });

  it("goes on in the order that is shown where another one did not come", async () => {
    const { desk, arrive } = onTheLastOfItsPage();
    const opened = desk.openGroup("abnormal", 0, "score");
    await arrive(false);
    await opened;
    expect([desk.sort.value, desk.chosen.value?.key]).toEqual(["suspicion", "b"]);
  });
});

describe("the answer to an undo", () => {
  const NONE = { label: null, note: "", box: [0, 0, 1, 1] as Box, said: null, at: "", seconds: 0 };
  const readingOf = (...keys: string[]): Reading => ({
    ...EMPTY,
    can_undo: true,
    cells: Object.fromEntries(keys.map((key) => [key, { ...NONE, verdict: "agree" as const }])),
  });

  function onThreeCells() {
    const desk = new OneDesk("s");
    const sent: Change[] = [];
    const push = (change: Change) => void sent.push(change);
    const reading = { value: readingOf("a", "b") };
    desk.outbox.value = { reading, pending: { value: [] }, push } as unknown as Outbox;
    const cells = ["a", "b", "c"].map((key, i) => ({ key, number: i + 1, label: "", score: 1 }));
    desk.gallery.value = { cells, pages: 1 } as unknown as GalleryPage;
    desk.choose(desk.shown[2] as GalleryCell);
    const undo = () => {
      desk.undo();
      const change = sent.at(-1) as Change;
      return (before: Reading, now: Reading) => desk.answered(change, before, now);
    };
    return { desk, sent, undo };
  }

  it("shows what it has changed, each of two that were asked for at once", () => {
    const { desk, undo } = onThreeCells();
    const answers = [undo(), undo()];
    answers[0]?.(readingOf("a", "b"), readingOf("a"));
    expect(desk.chosen.value?.key).toBe("b");
    answers[1]?.(readingOf("a"), readingOf());
    expect(desk.chosen.value?.key).toBe("a");
  });

  it("finds it in a whole reading, too", () => {
    const { desk, undo } = onThreeCells();
    undo()(readingOf("a", "b"), readingOf("a")); // "a" is another object that says the same
    expect(desk.chosen.value?.key).toBe("b");
  });

  it("leaves who has gone on where he is", () => {
    const { desk, undo } = onThreeCells();
    const answer = undo();
    void desk.step(-1);
    void desk.step(1);
    answer(readingOf("a", "b"), readingOf("a"));
    expect(desk.chosen.value?.key).toBe("c");
  });

  it("leaves a note and a drawn box with what they were begun for", () => {
    const { desk, sent, undo } = onThreeCells();
    const answer = undo();
    desk.openNote();
    answer(readingOf("a", "b"), readingOf("a"));
    desk.choose(desk.shown[0] as GalleryCell); // whatever else may choose
    const asked = desk.dialog.value;
    if (asked?.name === "note") desk.note(asked.cell, "mitosis");
    expect(sent.at(-1)).toMatchObject({ key: "c", note: "mitosis" });
    const other = onThreeCells();
    other.desk.begin("draw", [1, 2, 3, 4]);
    const late = other.undo();
    other.desk.keepDraft();
    late(readingOf("a", "b"), readingOf("a"));
    expect(other.desk.mode.value).toBe("draw");
    other.desk.choose(other.desk.shown[0] as GalleryCell);
    other.desk.addDrawn("LSIL");
    expect(other.sent.at(-1)).toMatchObject({ verdict: "added", box: [1, 2, 3, 4] });
  });
});

describe("the comment", () => {
  const comments = (sent: Change[]) =>
    sent.map((change) => (change.kind === "slide" ? change.comment : change.kind));

  /** A desk whose changes are answered when the test says so. */
  function onASlide() {
    const desk = new OneDesk("s");
    const sent: Change[] = [];
    let answer: () => void = () => {};
    const send = (_: string, body: unknown) => {
      sent.push(body as Change);
      const now = { ...EMPTY, version: sent.length };
      return new Promise<Reading>((resolve) => {
        answer = () => resolve(now);
      });
    };
    const store = { setItem: () => {}, getItem: () => null, removeItem: () => {} };
    const told = { trouble: () => {} };
    const outbox = new Outbox("s", "reading", 1, "r", told, store as unknown as Store, send);
    outbox.start(EMPTY);
    desk.outbox.value = outbox;
    const answered = async () => {
      answer();
      await vi.advanceTimersByTimeAsync(0);
    };
    return { desk, sent, answered, waits: () => outbox.pending.value };
  }

  it("stays while it is typed, whatever is answered, and is not saved till it is sent", async () => {
    vi.useFakeTimers();
    const { desk, sent, answered } = onASlide();
    desk.ofSlide({ category: "LSIL" });
    desk.typeComment("koilo");
    await answered();
    expect([desk.comment.value, desk.isTyping.value]).toEqual(["koilo", true]);
    desk.typeComment("koilocytes");
    await vi.runAllTimersAsync();
    expect(comments(sent)).toEqual([undefined, "koilocytes"]);
    expect([desk.comment.value, desk.isTyping.value]).toEqual(["koilocytes", false]);
    desk.leaveComment();
    expect(desk.comment.value).toBeNull();
    await vi.runAllTimersAsync();
    expect(sent.length).toBe(2);
    vi.useRealTimers();
  });

  it("goes with what leaves: the field, the page, the slide; before the signature", () => {
    for (const leave of ["leaveComment", "sendComment", "close"] as const) {
      const { desk, waits } = onASlide();
      desk.typeComment("few");
      desk[leave]();
      desk.close();
      expect(comments(waits())).toEqual(["few"]);
    }
    const { desk, waits } = onASlide();
    desk.typeComment("few");
    desk.sign(true);
    expect(comments(waits())).toEqual(["few", "sign"]);
    desk.typeComment("many"); // of what is signed nothing is sent, and nothing is thrown away
    desk.leaveComment();
    expect([comments(waits()).length, desk.isTyping.value]).toEqual([2, true]);
    desk.close();
  });
});

describe("the round", () => {
  const answers = (content: unknown) => async () => ({ ok: true, json: async () => content });
  const atDifferences = { at: "slide", id: "s", key: null, task: null, differences: true } as const;

  it("is not the adjudication's when the differences come after they were left", async () => {
    vi.stubGlobal("fetch", answers({ open: true, reason: "", differences: [] }));
    const desk = new OneDesk("s");
    const open = vi.spyOn(desk, "openRound").mockResolvedValue();
    route.value = { ...atDifferences, differences: false };
    await desk.loadDifferences();
    expect(open).not.toHaveBeenCalled();
    route.value = atDifferences;
    await desk.loadDifferences();
    expect(open).toHaveBeenCalledWith("adjudication");
  });

  it("is the reader's own again when he leaves the other while it is being opened", async () => {
    vi.stubGlobal("localStorage", { getItem: () => null, setItem() {}, removeItem() {} });
    session.value = { reader: { id: 1, name: "A" }, store: "other", read_only: false } as Session;
    let answer: () => void = () => {};
    vi.stubGlobal("fetch", async (path: string) => {
      if (path.includes("adjudication")) await new Promise<void>((done) => (answer = done));
      return { ok: true, json: async () => EMPTY };
    });
    const desk = new OneDesk("s");
    await desk.openRound("reading");
    const opening = desk.openRound("adjudication");
    expect(desk.outbox.value).toBeNull(); // nothing is said in the one that was left
    await desk.leaveDifferences();
    answer();
    await opening;
    expect([desk.round.value, desk.outbox.value?.round]).toEqual(["reading", "reading"]);
    desk.close();
    session.value = null;
  });

  it("has the cell chosen that differences show, and stays there when it is decided", () => {
    const desk = new OneDesk("s");
    const sent: Change[] = [];
    const push = (change: Change) => void sent.push(change);
    desk.outbox.value = { reading: { value: EMPTY }, pending: { value: [] }, push } as never;
    const cells = ["a", "b"].map((key, i) => ({ key, number: i + 1, label: "", score: 1 }));
    desk.gallery.value = { cells, pages: 1 } as unknown as GalleryPage;
    desk.cells.value = { rowOf: (key: string) => (key === "a" ? 0 : null) } as never;
    desk.round.value = "adjudication";
    desk.choose(desk.shown[1] as GalleryCell);
    desk.showPlace("a", [0, 0, 1, 1]);
    desk.decide("reject");
    expect([desk.chosen.value?.key, sent.length]).toEqual(["a", 1]);
    desk.showPlace("a1", [0, 0, 1, 1]); // another's, drawn: no key is about it
    desk.decide("reject");
    expect([desk.chosen.value, sent.length]).toEqual([null, 1]);
  });
});
