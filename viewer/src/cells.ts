/** All cells of a slide as arrays, with an index by place. */

import Flatbush from "flatbush";
import type { Box } from "./types";

const TYPES = {
  float32: Float32Array,
  uint32: Uint32Array,
  uint8: Uint8Array,
} as const;

interface Described {
  name: string;
  dtype: keyof typeof TYPES;
  shape: number[];
  offset: number;
}

/** Share of the slide's area from which on a scan from the first cell is faster than the index. */
const WIDE = 1 / 32;

export class Cells {
  readonly count: number;
  private index: Flatbush | null = null;

  /**
   * @param boxes (n, 4) level-0 pixels, the most suspicious first.
   * @param labels (n) indices into the classes.
   */
  constructor(
    readonly boxes: Float32Array,
    readonly scores: Float32Array,
    readonly labels: Uint8Array,
  ) {
    this.count = labels.length;
  }

  box(i: number): Box {
    return Array.from(this.boxes.subarray(4 * i, 4 * i + 4)) as Box;
  }

  /** The cells that touch a view, the most suspicious first, at most `most`; `all` says how many. */
  inView(view: Box, area: number, most: number): { rows: number[]; complete: boolean } {
    const share = ((view[2] - view[0]) * (view[3] - view[1])) / area;
    if (share < WIDE) {
      const rows = this.indexed().search(...view);
      rows.sort((a, b) => a - b);
      return { rows: rows.slice(0, most), complete: rows.length <= most };
    }
    const rows: number[] = [];
    const { boxes } = this;
    for (let i = 0; i < this.count; i++) {
      const j = 4 * i;
      const touches =
        (boxes[j] as number) <= view[2] &&
        (boxes[j + 2] as number) >= view[0] &&
        (boxes[j + 1] as number) <= view[3] &&
        (boxes[j + 3] as number) >= view[1];
      if (!touches) continue;
      if (rows.length === most) return { rows, complete: false };
      rows.push(i);
    }
    return { rows, complete: true };
  }

  /** The smallest cell at a place. */
  at(x: number, y: number): number | null {
    const found = this.count ? this.indexed().search(x, y, x, y) : [];
    const size = (i: number) => {
      const [x0, y0, x1, y1] = this.box(i);
      return (x1 - x0) * (y1 - y0);
    };
    return found.length ? found.reduce((a, b) => (size(b) < size(a) ? b : a)) : null;
  }

  /** The row of a box that the report had, to a tenth of a pixel. */
  rowOf(box: Box): number | null {
    if (!this.count) return null;
    const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    const same = (i: number) =>
      this.box(i).every((side, k) => Math.abs(side - (box[k] ?? 0)) < 0.1);
    return this.indexed().search(x, y, x, y).find(same) ?? null;
  }

  private indexed(): Flatbush {
    if (this.index === null) {
      const index = new Flatbush(Math.max(1, this.count), 16, Float32Array);
      const { boxes } = this;
      for (let j = 0; j < boxes.length; j += 4) {
        index.add(
          boxes[j] as number,
          boxes[j + 1] as number,
          boxes[j + 2] as number,
          boxes[j + 3] as number,
        );
      }
      if (this.count === 0) index.add(-1, -1, -1, -1);
      index.finish();
      this.index = index;
    }
    return this.index;
  }
}

/** Reads cells.bin: the length of a JSON header, the header, then little-endian arrays. */
export function decodeCells(buffer: ArrayBuffer): Cells {
  const length = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, length));
  const header = JSON.parse(text) as { count: number; arrays: Described[] };
  const start = 4 + length;
  const read = (name: string) => {
    const of = header.arrays.find((one) => one.name === name);
    if (!of) throw new Error(`cells.bin: no array is called ${name}`);
    const size = of.shape.reduce((a, b) => a * b, 1);
    return new TYPES[of.dtype](buffer, start + of.offset, size);
  };
  return new Cells(
    read("boxes") as Float32Array,
    read("scores") as Float32Array,
    read("labels") as Uint8Array,
  );
}
