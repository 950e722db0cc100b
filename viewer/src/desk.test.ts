import { describe, expect, it, vi } from "vitest";
import type { Desk } from "./desk";
import type { Box, Difference, View } from "./types";

vi.stubGlobal("location", { hash: "" });
vi.stubGlobal("window", { addEventListener: () => {} });
const { take } = await import("./differences");

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
    take(desk, of, view("C", null, null));
    expect(adjudicate.mock.lastCall?.[1]).toEqual(first);
  });
});
