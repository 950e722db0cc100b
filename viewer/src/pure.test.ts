import { describe, expect, it } from "vitest";
import { Attention } from "./attention";
import { Cells, decodeCells, keyOf as keyOfBox } from "./cells";
import { clipped, lengthText, magnification, scaleBar, spanned } from "./geometry";
import { keyOf } from "./keys";
import type { Box, SlideRow } from "./types";
import { choose, inWindow, nextUnread } from "./worklist";

describe("geometry", () => {
  it("takes the longest round bar that fits", () => {
    expect(scaleBar(0.25, 160)).toEqual({ um: 20, pixels: 80 });
    expect(scaleBar(10, 100)).toEqual({ um: 1000, pixels: 100 });
    expect(scaleBar(0, 100)).toEqual({ um: 0, pixels: 0 });
    expect(lengthText(2000)).toBe("2 mm");
    expect(lengthText(50)).toBe("50 µm");
    expect(magnification(0.25)).toBe(40);
  });

  it("orders corners and keeps to the slide", () => {
    expect(spanned(9, 8, 1, 2)).toEqual([1, 2, 9, 8]);
    expect(clipped([-5, 2, 4, 9], 10, 8)).toEqual([0, 2, 4, 8]);
    expect(clipped([11, 2, 14, 9], 10, 8)).toBeNull();
  });
});

describe("cells", () => {
  const random = (n: number) => {
    let state = 1;
    const next = () => {
      state = (state * 16807) % 2147483647;
      return state / 2147483647;
    };
    const boxes = new Float32Array(4 * n);
    for (let i = 0; i < n; i++) {
      const [x, y] = [next() * 1000, next() * 1000];
      boxes.set([x, y, x + 5 + next() * 20, y + 5 + next() * 20], 4 * i);
    }
    return new Cells(boxes, new Float32Array(n), new Uint8Array(n));
  };

  it.each([[[100, 100, 180, 190]], [[0, 0, 1000, 900]]] as [Box][])(
    "finds what a slow look finds in %j",
    (view) => {
      const cells = random(2000);
      const slow = Array.from({ length: 2000 }, (_, i) => i).filter((i) => {
        const [x0, y0, x1, y1] = cells.box(i);
        return x0 <= view[2] && x1 >= view[0] && y0 <= view[3] && y1 >= view[1];
      });
      expect([...cells.inView(view)].sort((a, b) => a - b)).toEqual(slow);
      expect(cells.countNear(view)).toBeGreaterThanOrEqual(slow.length);
    },
  );

  it("takes the smaller of two at a place, and knows a box again", () => {
    const boxes = new Float32Array([0, 0, 50, 50, 10, 10, 20, 20]);
    const cells = new Cells(boxes, new Float32Array(2), new Uint8Array(2));
    expect(cells.at(15, 15)).toBe(1);
    expect(cells.at(40, 40)).toBe(0);
    expect(cells.at(70, 70)).toBeNull();
    expect(cells.rowOf("10.0_10.0_20.0_20.0")).toBe(1);
    expect(cells.rowOf("11.0_10.0_20.0_20.0")).toBeNull();
  });

  it("bears a slide without cells", () => {
    const none = new Cells(new Float32Array(0), new Float32Array(0), new Uint8Array(0));
    expect(none.at(1, 1)).toBeNull();
    expect([...none.inView([0, 0, 1, 1])]).toEqual([]);
    expect([...none.dots(4, [])]).toEqual([]);
  });

  it("has a dot for each place with a cell, an abnormal one where there is one", () => {
    const boxes = new Float32Array([0, 0, 4, 4, 0, 0, 5, 5, 100, 100, 104, 104]);
    const cells = new Cells(boxes, new Float32Array(3), new Uint8Array([0, 1, 0]));
    expect([...cells.dots(1, [false, true])].sort()).toEqual([1, 2]); // 0 lies below 1
    expect([...cells.dots(64, [false, true])]).toEqual([1]); // one dot for all
  });

  it("names cells as the server does", () => {
    // What Python's f"{round(side, 1):.1f}" makes of these.
    const sides = [3555.25, 3555.75, 0.15, 0.35, 80000.95, -0.04, 7, 0.05];
    const told = ["3555.2", "3555.8", "0.1", "0.3", "80000.9", "0.0", "7.0", "0.1"];
    expect(keyOfBox(sides)).toBe(told.join("_"));
    const tenths = new Int32Array([10, 25, 301, 40000]);
    const one = new Float32Array([1, 2.5, 30.1, 4000]);
    const cells = new Cells(one, new Float32Array(1), new Uint8Array(1), tenths);
    expect(cells.key(0)).toBe("1.0_2.5_30.1_4000.0");
  });

  it("reads what the server sends", () => {
    const described = [
      { name: "boxes", dtype: "float32", shape: [1, 4], offset: 0 },
      { name: "scores", dtype: "float32", shape: [1], offset: 16 },
      { name: "labels", dtype: "uint8", shape: [1], offset: 20 },
    ];
    let text = JSON.stringify({ count: 1, arrays: described });
    while ((4 + text.length) % 8) text += " ";
    const buffer = new ArrayBuffer(4 + text.length + 24);
    new DataView(buffer).setUint32(0, text.length, true);
    new Uint8Array(buffer, 4).set(new TextEncoder().encode(text));
    const start = 4 + text.length;
    new Float32Array(buffer, start, 5).set([1, 2, 3, 4, 0.5]);
    new Uint8Array(buffer, start + 20, 1)[0] = 3;
    const cells = decodeCells(buffer, 10, 10);
    expect(cells.box(0)).toEqual([1, 2, 3, 4]);
    expect([cells.scores[0], cells.labels[0], cells.count]).toEqual([0.5, 3, 1]);
  });
});

describe("keys", () => {
  const press = (
    key: string,
    held: Partial<Record<"ctrlKey" | "shiftKey" | "altKey" | "repeat", boolean>> = {},
  ) => {
    const none = { ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, repeat: false };
    return keyOf({ key, ...none, ...held });
  };

  it("means what the list of keys says", () => {
    expect(press("a")).toEqual({ do: "verdict", verdict: "agree" });
    expect(press("3")).toEqual({ do: "class", key: "3" });
    expect(press("z", { ctrlKey: true })).toEqual({ do: "undo" });
    expect(press("Z", { ctrlKey: true, shiftKey: true })).toEqual({ do: "redo" });
    expect(press("c", { ctrlKey: true })).toBeNull(); // the browser's own
    expect(press("d", { altKey: true })).toBeNull();
    expect(press("q")).toBeNull();
  });

  it("goes through cells while it is held, and does nothing else", () => {
    const repeat = true;
    expect(press("j", { repeat })).toEqual({ do: "next" });
    expect(press("ArrowLeft", { repeat })).toEqual({ do: "previous" });
    for (const key of ["a", "x", "3", "z", "n", "d", "]", "Enter"]) {
      expect(press(key, { repeat })).toEqual({ do: "held" });
    }
    expect(press("z", { ctrlKey: true, repeat })).toEqual({ do: "held" });
    expect(press("q", { repeat })).toBeNull();
  });
});

describe("work list", () => {
  const slide = (id: string, more: Partial<SlideRow> = {}) =>
    ({
      id,
      name: id,
      path: "",
      status: "complete",
      category: "",
      error: "",
      flags: [],
      warnings: [],
      abnormal: 0,
      review: { state: "unread", mine: "unread", decided: 0, readers: 0, category: null },
      ...more,
    }) as unknown as SlideRow;
  const signed = { state: "signed", mine: "signed", decided: 3, readers: 1, category: null };
  const slides = [
    slide("b", { abnormal: 1, category: "HSIL" }),
    slide("a", { abnormal: 5, review: signed as SlideRow["review"] }),
    slide("c", { status: "failed", error: "truncated" }),
  ];
  const wanted = { search: "", state: "", flag: "", sort: "suspicion" as const };

  it("keeps the server's order, or sorts", () => {
    expect(choose(slides, wanted).map((one) => one.id)).toEqual(["b", "a", "c"]);
    expect(choose(slides, { ...wanted, sort: "name" }).map((one) => one.id)).toEqual([
      "a",
      "b",
      "c",
    ]);
    expect(choose(slides, { ...wanted, sort: "cells" })[0]?.id).toBe("a");
  });

  it("searches all words, and filters by state", () => {
    expect(choose(slides, { ...wanted, search: "TRUNC" }).map((one) => one.id)).toEqual(["c"]);
    expect(choose(slides, { ...wanted, search: "hsil b" }).map((one) => one.id)).toEqual(["b"]);
    expect(choose(slides, { ...wanted, state: "signed" }).map((one) => one.id)).toEqual(["a"]);
  });

  it("goes to the next unread slide, round the end", () => {
    const three = [slide("x"), slide("y", { review: signed as SlideRow["review"] }), slide("z")];
    expect(nextUnread(three, null)).toBe("x");
    expect(nextUnread(three, "x")).toBe("z");
    expect(nextUnread(three, "z")).toBe("x");
    expect(nextUnread([slide("x")], "x")).toBeNull();
  });

  it("makes only the rows in sight", () => {
    expect(inWindow(0, 500, 100, 5000)).toEqual([0, 11]);
    expect(inWindow(100_000, 500, 100, 5000)).toEqual([994, 1011]);
    expect(inWindow(0, 500, 100, 2)).toEqual([0, 2]);
  });
});

it("counts the time somebody looked, not the pause", () => {
  let now = 0;
  const attention = new Attention(() => now);
  now = 2000;
  attention.active();
  now = 200_000; // away
  attention.active();
  now = 201_500;
  expect(attention.seconds()).toBe(3.5);
  attention.restart();
  expect(attention.seconds()).toBe(0);
});
