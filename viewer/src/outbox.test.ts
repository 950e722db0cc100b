import { describe, expect, it, vi } from "vitest";
import { ApiError, OfflineError, post } from "./api";
import {
  EMPTY,
  merge,
  mishap,
  newId,
  Outbox,
  project,
  type Told,
  type Trouble,
  waiting,
  withoutFirst,
} from "./outbox";
import type { Change, Reading } from "./types";

class Shelf {
  readonly kept = new Map<string, string>();
  get length() {
    return this.kept.size;
  }
  key = (index: number) => [...this.kept.keys()][index] ?? null;
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

const step = (kind: "undo" | "redo"): Change => ({ kind, id: newId(), seconds: 0 });

/** Another page of this browser: what it has loaded is its own. */
async function anotherPage() {
  vi.resetModules();
  return { ...(await import("./outbox")), ...(await import("./api")) };
}

type Page = Awaited<ReturnType<typeof anotherPage>>;

/** A server that takes what builds on its version, and what it knows already. */
class Server {
  away = false;
  /** Whether the next answer is lost. */
  loses = false;
  readonly taken: (Change & { version: number })[] = [];

  reading(): Reading {
    return at(this.taken.length);
  }

  /** What a page sends by. */
  of(page: Page) {
    return async (_: string, body: unknown): Promise<Reading> => {
      if (this.away) throw new page.OfflineError("gone");
      const change = body as Change & { version: number };
      if (!this.taken.some(({ id }) => id === change.id)) {
        if (change.version !== this.taken.length) {
          throw new page.ApiError(409, "stale", "changed elsewhere", this.reading());
        }
        this.taken.push(change);
      }
      if (this.loses) {
        this.loses = false;
        throw new page.OfflineError("broke off");
      }
      return this.reading();
    };
  }

  get keys(): string[] {
    return this.taken.map((change) => ("key" in change ? change.key : change.kind));
  }
}

const at = (version: number): Reading => ({ ...EMPTY, version });

function outbox(send: (path: string, body: unknown) => Promise<Reading>, shelf = new Shelf()) {
  const told: string[] = [];
  const trouble = ({ text }: Trouble) => void told.push(text);
  const made = new Outbox("s1", "reading", 7, "reports", { trouble }, shelf, send);
  return { made, told, shelf };
}

/** What a page that had no server has left: one change, decided on a version. */
function keptAt(version: number): Shelf {
  const shelf = new Shelf();
  const { made } = outbox(() => Promise.reject(new OfflineError("gone")), shelf);
  made.start(at(version));
  made.push(agree("a"));
  made.close();
  return shelf;
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

  it("undoes and does again what has not been sent, and leaves the rest to the server", () => {
    const [one, two] = [agree("a"), { ...agree("a"), verdict: "reject" } as Change];
    const verdict = (...pending: Change[]) => project(at(3), pending).cells.a?.verdict;
    expect(verdict(one, two, step("undo"))).toBe("agree");
    expect(verdict(one, two, step("undo"), step("undo"))).toBeUndefined();
    expect(verdict(one, two, step("undo"), step("redo"))).toBe("reject");
    expect(project(at(3), [step("undo")])).toMatchObject({ version: 3, can_undo: false });
  });

  it("takes a region away", () => {
    const with_one = { ...EMPTY, regions: { r1: { box: [0, 0, 1, 1], note: "" } } } as Reading;
    const gone: Change = { kind: "region", key: "r1", box: null, id: newId(), seconds: 0 };
    expect(project(with_one, [gone]).regions).toEqual({});
  });
});

describe("merge", () => {
  const cell = project(EMPTY, [agree("a")]).cells.a;

  it("puts a part in its place, and takes away what is null", () => {
    const before: Reading = { ...at(4), cells: { a: cell, b: cell } as Reading["cells"] };
    const { cells: _, regions: __, ...frame } = at(5);
    const now = merge(before, { ...frame, delta: true, cells: { b: null }, regions: {} });
    expect(now).toMatchObject({ version: 5, regions: {} });
    expect(Object.keys(now.cells)).toEqual(["a"]);
  });

  it("takes a whole reading as it is", () => {
    expect(merge({ ...at(4), cells: { a: cell } as Reading["cells"] }, at(7))).toEqual(at(7));
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
    expect(made.hindered.value).toBe("");
    expect(JSON.parse([...shelf.kept.values()][0] ?? "{}").pending).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(600);
    expect(made.pending.value).toEqual([]);
    expect(made.hindered.value).toBeNull();
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

  it("sends what was kept with the version on which it was decided", async () => {
    const shelf = keptAt(3);
    const versions: number[] = [];
    const { made } = outbox(async (_, body) => {
      versions.push((body as { version: number }).version);
      return at(9);
    }, shelf);
    made.start(at(8)); // another window has written since
    await vi.waitFor(() => expect(versions).toEqual([3]));
  });

  it("keeps what can't be taken now: not in any more, too busy, a full disk", async () => {
    for (const status of [401, 429, 503]) {
      const { made, told } = outbox(async () => {
        throw new ApiError(status, "full", "no room on the disk");
      });
      made.start(at(0));
      made.push(agree("a"));
      await vi.waitFor(() => expect(made.hindered.value).toBe("no room on the disk"));
      expect(made.pending.value).toHaveLength(1);
      expect(told).toEqual([]);
      made.close();
    }
  });

  it("stops where another reads in this browser now, and keeps what waits", async () => {
    const shelf = new Shelf();
    const [others, readers]: [string[], unknown[]] = [[], []];
    const told = { trouble: () => {}, other: (error: ApiError) => void others.push(error.code) };
    const made = new Outbox("s1", "reading", 7, "reports", told, shelf, async (_, body) => {
      readers.push((body as { reader: number }).reader);
      throw new ApiError(401, "other-reader", "Ben reads now");
    });
    vi.useFakeTimers();
    made.start(at(0));
    made.push(agree("a"));
    await vi.advanceTimersByTimeAsync(20_000);
    vi.useRealTimers();
    expect(readers).toEqual([7]);
    expect(others).toEqual(["other-reader"]);
    expect(made.pending.value).toHaveLength(1);
    expect(shelf.kept.size).toBe(1);
  });

  it("sends what waits when its slide is left, and counts it till then", async () => {
    const before = waiting.value;
    const sent: string[] = [];
    const { made, told, shelf } = outbox(async (_, body) => {
      sent.push((body as { key: string }).key);
      if (sent.length === 3) throw new ApiError(400, "change", "no such class");
      return at(sent.length);
    });
    made.start(EMPTY);
    for (const key of ["a", "b", "c"]) made.push(agree(key));
    made.close();
    expect(waiting.value).toBe(before + 3);
    await vi.waitFor(() => expect(made.pending.value).toEqual([]));
    expect(sent).toEqual(["a", "b", "c"]);
    expect([shelf.kept.size, waiting.value]).toEqual([0, before]);
    expect(told).toEqual([]);
    expect(mishap.value).toContain("no such class");
  });

  it("sends what is kept of a reader, and of no other, when he begins", async () => {
    const shelf = new Shelf();
    const never = () => new Promise<Reading>(() => {});
    for (const [slide, reader, room] of [
      ["s1", 7, "here"],
      ["s2", 7, "here"],
      ["s1", 8, "here"],
      ["s1", 7, "there"],
    ] as const) {
      const said = { trouble: () => {} };
      const one = new Outbox(slide, "reading", reader, room, said, shelf, never);
      one.push(agree("a"));
    }
    vi.resetModules(); // another page
    const fresh = await import("./outbox");
    const sent: unknown[] = [];
    fresh.resume("here", 7, shelf, async (path, body) => {
      sent.push([path.split("/")[3], (body as { reader: number }).reader]);
      return at(1);
    });
    await vi.waitFor(() => expect(shelf.kept.size).toBe(2));
    expect(sent).toEqual([
      ["s1", 7],
      ["s2", 7],
    ]);
    expect(fresh.waiting.value).toBe(0);
  });

  it("keeps beside it what another window keeps, till the server has had both", async () => {
    const [server, shelf] = [new Server(), new Shelf()];
    const told: string[] = [];
    const said = { trouble: ({ text }: Trouble) => void told.push(text) };
    const open = async () => {
      const page = await anotherPage();
      return {
        page,
        one: new page.Outbox("s1", "reading", 7, "here", said, shelf, server.of(page)),
      };
    };
    const [{ one: first }, { one: second }] = [await open(), await open()];
    server.away = true;
    for (const one of [first, second]) one.start(server.reading());
    second.push(agree("c"));
    for (const key of ["a", "b"]) first.push(agree(key));
    const kept = () => [...shelf.kept.values()].flatMap((one) => JSON.parse(one).pending);
    expect(kept().map(({ key }) => key)).toEqual(["c", "a", "b"]);
    await vi.waitFor(() => expect(second.hindered.value).toBe(""));
    server.away = false;
    // Opened anew: the longer list goes, the other was decided without a sight of it, as is told.
    const page = await anotherPage();
    page.resume("here", 7, shelf, server.of(page));
    await vi.waitFor(() => expect([page.waiting.value, shelf.kept.size]).toEqual([0, 0]));
    expect(server.keys).toEqual(["a", "b"]);
    expect(page.mishap.value).toContain("changed elsewhere");
    for (const one of [first, second]) await one.flush(); // they live on: what arrived counts once
    expect(server.keys).toEqual(["a", "b"]);
    expect(told).toEqual(["changed elsewhere"]); // the second's own word on the same
    expect(shelf.kept.size).toBe(0);
  });

  it("goes on with another window's list, and that window with its own", async () => {
    const [server, shelf] = [new Server(), new Shelf()];
    const lost = vi.fn();
    const open = async () => {
      const page = await anotherPage();
      const said = { trouble: lost };
      return new page.Outbox("s1", "reading", 7, "here", said, shelf, server.of(page));
    };
    server.away = true;
    const first = await open();
    first.start(server.reading());
    for (const key of ["a", "b"]) first.push(agree(key));
    const second = await open();
    expect(second.pending.value).toHaveLength(2);
    second.start(server.reading());
    second.push(agree("c"));
    first.push(step("undo"));
    await vi.waitFor(() => expect(second.hindered.value).toBe(""));
    server.away = false;
    await second.flush();
    expect(server.keys).toEqual(["a", "b", "c"]);
    await first.flush(); // a and b have arrived; the undo was not about c
    expect(server.keys).toEqual(["a", "b", "c"]);
    expect(lost).toHaveBeenCalledOnce();
    expect(lost.mock.calls[0]?.[0]).toMatchObject({ code: "stale", lost: 1 });
    expect(shelf.kept.size).toBe(0);
  });

  it("overrules nothing with what waits behind a change whose answer was lost", async () => {
    const server = new Server();
    const page = await anotherPage();
    const lost = vi.fn();
    const made = new page.Outbox(
      "s1",
      "reading",
      7,
      "here",
      { trouble: lost },
      new Shelf(),
      server.of(page),
    );
    made.start(server.reading());
    server.loses = true;
    made.push(agree("a"));
    await vi.waitFor(() => expect(made.hindered.value).toBe(""));
    const elsewhere = { ...agree("c"), version: 1 };
    server.taken.push(elsewhere);
    made.push({ ...agree("c"), verdict: "reject" } as Change);
    await vi.waitFor(() => expect(made.pending.value).toEqual([]));
    expect(server.keys).toEqual(["a", "c"]);
    expect(server.taken[1]).toBe(elsewhere);
    expect(lost.mock.calls[0]?.[0]).toMatchObject({ code: "stale", lost: 1 });
    expect(made.reading.value.version).toBe(2);
    made.push(agree("d")); // decided on what is shown
    await vi.waitFor(() => expect(server.keys).toEqual(["a", "c", "d"]));
  });

  it("builds on what is shown when the last that was kept is refused", async () => {
    const shelf = keptAt(3);
    const versions: number[] = [];
    const { made } = outbox(async (_, body) => {
      const { key, version } = body as { key: string; version: number };
      if (key === "a") throw new ApiError(400, "change", "no such class");
      versions.push(version);
      return at(9);
    }, shelf);
    made.start(at(8));
    await vi.waitFor(() => expect(made.pending.value).toEqual([]));
    made.push(agree("b"));
    await vi.waitFor(() => expect(versions).toEqual([8]));
  });

  it("is sent from the state that a view has read, once it is opened again", async () => {
    let answer: (reading: Reading) => void = () => {};
    const { made } = outbox(
      () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    );
    made.start(at(3));
    made.push(agree("a"));
    made.push(agree("b"));
    made.close();
    const view: Told = { trouble: () => {} };
    const attached = made.attach(view);
    answer(at(4));
    await attached;
    expect(made.pending.value).toHaveLength(1); // waits for what the server knows
    made.start({ ...at(4), slide: { ...EMPTY.slide, comment: "mine" } });
    made.close({ trouble: () => {} }); // a view that came before does not close it
    answer({ ...made.reading.value, version: 5 });
    await vi.waitFor(() => expect(made.pending.value).toEqual([]));
    expect(made.reading.value).toMatchObject({ version: 5, slide: { comment: "mine" } });
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

  it("drops with what is refused the undo of it, which would take back something else", async () => {
    const sent: Change[] = [];
    const { made, told } = outbox(async (_, body) => {
      sent.push(body as Change);
      if ((body as { key: string }).key === "a") throw new ApiError(400, "change", "no such class");
      return at(sent.length);
    });
    made.push(agree("a"));
    made.push(step("undo"));
    made.push(agree("b"));
    made.start(EMPTY);
    await vi.waitFor(() => expect(made.pending.value).toEqual([]));
    expect(sent.map(({ kind }) => kind)).toEqual(["cell", "cell"]);
    expect(told).toEqual(["no such class"]);
  });
});

describe("withoutFirst", () => {
  it("keeps what is about other changes", () => {
    const [a, b, undo, redo, more] = [
      agree("a"),
      agree("b"),
      step("undo"),
      step("redo"),
      step("undo"),
    ];
    expect(withoutFirst([a])).toEqual([]);
    expect(withoutFirst([a, undo, redo, more])).toEqual([]);
    expect(withoutFirst([a, b, undo, redo])).toEqual([b, undo, redo]);
    expect(withoutFirst([a, b, undo, more])).toEqual([b, undo]);
    expect(withoutFirst([a, undo, more])).toEqual([more]);
    expect(withoutFirst([undo, redo, b])).toEqual([b]);
    expect(withoutFirst([redo, undo, b])).toEqual([b]);
  });
});

it("takes an answer that broke off for one that did not come", async () => {
  for (const broken of [new TypeError("network error"), new SyntaxError("JSON")]) {
    vi.stubGlobal("fetch", async () => ({ ok: true, json: () => Promise.reject(broken) }));
    await expect(post("/api/x", {})).rejects.toBeInstanceOf(OfflineError);
  }
  vi.unstubAllGlobals();
});

it("makes ids that are UUIDs of version 4, each its own", () => {
  const ids = Array.from({ length: 50 }, newId);
  expect(ids.every((id) => /^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/.test(id))).toBe(true);
  expect(new Set(ids).size).toBe(50);
});
