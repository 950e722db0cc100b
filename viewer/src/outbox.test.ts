import { describe, expect, it, vi } from "vitest";
import { ApiError, OfflineError } from "./api";
import { EMPTY, newId, Outbox, project } from "./outbox";
import type { Change, Reading } from "./types";

class Shelf {
  readonly kept = new Map<string, string>();
  getItem = (key: string) => this.kept.get(key) ?? null;
  setItem = (key: string, value: string) => void this.kept.set(key, value);
  removeItem = (key: string) => void this.kept.delete(key);
}

const agree = (key: string): Change => ({
  kind: "cell",
  key,
  verdict: "agree",
  said: { label: "LSIL", score: 0.8, box: [1, 2, 3, 4] },
  id: newId(),
  seconds: 2,
});

const at = (version: number): Reading => ({ ...EMPTY, version });

function outbox(send: (path: string, body: unknown) => Promise<Reading>, shelf = new Shelf()) {
  const told: string[] = [];
  const made = new Outbox("s1", "reading", 7, "reports", (text) => told.push(text), shelf, send);
  return { made, told, shelf };
}

describe("project", () => {
  it("shows what is on its way", () => {
    const shown = project(at(3), [agree("a"), { ...agree("b"), verdict: "reject" } as Change]);
    expect(shown.cells.a).toMatchObject({ verdict: "agree", label: "LSIL", box: [1, 2, 3, 4] });
    expect(shown.cells.b?.verdict).toBe("reject");
    expect(shown.can_undo).toBe(true);
    expect(shown.version).toBe(3);
  });

  it("keeps a note and a box that a later change leaves out", () => {
    const first = { ...agree("a"), note: "odd", box: [5, 5, 9, 9] } as Change;
    const shown = project(EMPTY, [first, { ...agree("a"), verdict: "unsure" } as Change]);
    expect(shown.cells.a).toMatchObject({ note: "odd", box: [5, 5, 9, 9], verdict: "unsure" });
  });

  it("takes a region away", () => {
    const with_one = { ...EMPTY, regions: { r1: { box: [0, 0, 1, 1], note: "" } } } as Reading;
    const gone: Change = { kind: "region", key: "r1", box: null, id: newId(), seconds: 0 };
    expect(project(with_one, [gone]).regions).toEqual({});
  });
});

describe("Outbox", () => {
  it("sends in order, each with the version that came back before", async () => {
    const sent: { key: string; version: number }[] = [];
    const { made, shelf } = outbox(async (_, body) => {
      sent.push(body as { key: string; version: number });
      return at(sent.length + 4);
    });
    made.start(at(4));
    made.push(agree("a"));
    made.push(agree("b"));
    await vi.waitFor(() => expect(made.pending.value).toEqual([]));
    expect(sent.map((one) => [one.key, one.version])).toEqual([
      ["a", 4],
      ["b", 5],
    ]);
    expect(made.reading.value.version).toBe(6);
    expect(shelf.kept.size).toBe(0);
  });

  it("keeps what the server did not take, and sends the same again", async () => {
    vi.useFakeTimers();
    const ids: string[] = [];
    const { made, shelf } = outbox(async (_, body) => {
      ids.push((body as Change).id);
      if (ids.length === 1) throw new OfflineError("gone");
      return at(1);
    });
    made.start(EMPTY);
    made.push(agree("a"));
    await vi.advanceTimersByTimeAsync(10);
    expect(made.offline.value).toBe(true);
    expect(JSON.parse([...shelf.kept.values()][0] ?? "[]")).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(600);
    expect(made.pending.value).toEqual([]);
    expect(made.offline.value).toBe(false);
    expect(ids[0]).toBe(ids[1]);
    vi.useRealTimers();
  });

  it("finds what an earlier page could not send", async () => {
    const shelf = new Shelf();
    const never = outbox(() => new Promise(() => {}), shelf);
    never.made.push(agree("a"));
    const { made } = outbox(async () => at(9), shelf);
    expect(made.pending.value).toHaveLength(1);
    made.start(EMPTY);
    await vi.waitFor(() => expect(made.reading.value.version).toBe(9));
  });

  it("writes nothing over what another window wrote", async () => {
    const current = { ...at(12), cells: {} };
    const { made, told } = outbox(async () => {
      throw new ApiError(409, "stale", "changed elsewhere", current);
    });
    made.start(at(3));
    made.push(agree("a"));
    made.push(agree("b"));
    await vi.waitFor(() => expect(told).toEqual(["changed elsewhere"]));
    expect(made.reading.value.version).toBe(12);
    expect(made.pending.value).toEqual([]);
  });

  it("drops what is refused, tells why, and goes on with the rest", async () => {
    const { made, told } = outbox(async (_, body) => {
      if ((body as { key: string }).key === "a") throw new ApiError(400, "change", "no such class");
      return at(1);
    });
    made.start(EMPTY);
    made.push(agree("a"));
    made.push(agree("b"));
    await vi.waitFor(() => expect(made.reading.value.version).toBe(1));
    expect(told).toEqual(["no such class"]);
  });
});

it("makes ids of 32 hex digits, each its own", () => {
  const ids = Array.from({ length: 50 }, newId);
  expect(ids.every((id) => /^[0-9a-f]{32}$/.test(id))).toBe(true);
  expect(new Set(ids).size).toBe(50);
});
