import { beforeAll, expect, it, vi } from "vitest";

beforeAll(() => {
  vi.stubGlobal("localStorage", { getItem: () => null, setItem: () => {} });
});

it("has each text in both languages, with the same names to fill in", async () => {
  const { TABLES } = await import("./strings");
  const names = (text: string) => (text.match(/\{\w+\}/g) ?? []).sort();
  expect(Object.keys(TABLES.zh).sort()).toEqual(Object.keys(TABLES.en).sort());
  for (const [key, text] of Object.entries(TABLES.en)) {
    expect(names(TABLES.zh[key as keyof typeof TABLES.zh]), key).toEqual(names(text));
  }
});

it("fills names in, and leaves those that it doesn't know", async () => {
  const { fill } = await import("./strings");
  expect(fill("{n} of {of}", { n: 1 })).toBe("1 of {of}");
});
