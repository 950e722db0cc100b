/** All cells of a slide as arrays, with an index by place; nothing here is one object a cell. */

import type { Box } from "./types";

const TYPES = {
  float32: Float32Array,
  int32: Int32Array,
  uint32: Uint32Array,
  uint8: Uint8Array,
} as const;

interface Described {
  name: string;
  dtype: keyof typeof TYPES;
  shape: number[];
  offset: number;
}

/** Cells that one bin of the grid holds on average. */
const A_BIN = 6;

/** Screen px between two dots of a slide that is seen from far. */
export const DOT_PX = 3;

/** Rows by the place of their centre: bins of one side, the rows of each one after the other. */
class Grid {
  readonly columns: number;
  readonly rows: number;
  private readonly starts: Uint32Array;
  private readonly order: Uint32Array;

  constructor(
    readonly xs: Float32Array,
    readonly ys: Float32Array,
    readonly width: number,
    readonly height: number,
  ) {
    const count = xs.length;
    this.side = Math.max(1, Math.sqrt((width * height * A_BIN) / Math.max(1, count)));
    this.columns = Math.max(1, Math.ceil(width / this.side));
    this.rows = Math.max(1, Math.ceil(height / this.side));
    const bins = new Uint32Array(count);
    this.starts = new Uint32Array(this.columns * this.rows + 1);
    for (let i = 0; i < count; i++) {
      const bin = this.row(ys[i] as number) * this.columns + this.column(xs[i] as number);
      bins[i] = bin;
      this.starts[bin + 1] = (this.starts[bin + 1] as number) + 1;
    }
    for (let bin = 0; bin < this.starts.length - 1; bin++) {
      this.starts[bin + 1] = (this.starts[bin + 1] as number) + (this.starts[bin] as number);
    }
    const next = this.starts.slice();
    this.order = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      const bin = bins[i] as number;
      const place = next[bin] as number;
      this.order[place] = i;
      next[bin] = place + 1;
    }
  }

  readonly side: number;

  /** How many are in the bins that a box touches, and which they are once asked for. */
  spans(box: Box): { count: number; rows: () => Uint32Array } {
    const [c0, c1] = [this.column(box[0]), this.column(box[2])];
    const spans: [number, number][] = [];
    let count = 0;
    for (let row = this.row(box[1]); row <= this.row(box[3]); row++) {
      const from = this.starts[row * this.columns + c0] as number;
      const to = this.starts[row * this.columns + c1 + 1] as number;
      spans.push([from, to]);
      count += to - from;
    }
    const rows = () => {
      const found = new Uint32Array(count);
      let at = 0;
      for (const [from, to] of spans) {
        found.set(this.order.subarray(from, to), at);
        at += to - from;
      }
      return found;
    };
    return { count, rows };
  }

  private column(x: number): number {
    return Math.max(0, Math.min(this.columns - 1, Math.floor(x / this.side)));
  }

  private row(y: number): number {
    return Math.max(0, Math.min(this.rows - 1, Math.floor(y / this.side)));
  }
}

export class Cells {
  readonly count: number;
  readonly xs: Float32Array;
  readonly ys: Float32Array;
  /** Half of the longest side of any cell, level-0 px. */
  readonly reach: number;
  private readonly grid: Grid;
  private readonly thinned = new Map<number, Uint32Array>();

  /**
   * @param boxes (4 n) level-0 pixels.
   * @param scores (n) of the class.
   * @param labels (n) indices into the model's classes.
   * @param tenths (4 n) boxes in tenths of a pixel, as keys have them; null where not told.
   */
  constructor(
    readonly boxes: Float32Array,
    readonly scores: Float32Array,
    readonly labels: Uint8Array,
    readonly tenths: Int32Array | null = null,
    width = 0,
    height = 0,
  ) {
    this.count = labels.length;
    this.xs = new Float32Array(this.count);
    this.ys = new Float32Array(this.count);
    let longest = 0;
    let [right, bottom] = [width, height];
    for (let i = 0, j = 0; i < this.count; i++, j += 4) {
      const [x0, y0] = [boxes[j] as number, boxes[j + 1] as number];
      const [x1, y1] = [boxes[j + 2] as number, boxes[j + 3] as number];
      this.xs[i] = (x0 + x1) / 2;
      this.ys[i] = (y0 + y1) / 2;
      longest = Math.max(longest, x1 - x0, y1 - y0);
      right = Math.max(right, x1);
      bottom = Math.max(bottom, y1);
    }
    this.reach = longest / 2;
    this.grid = new Grid(this.xs, this.ys, Math.max(1, right), Math.max(1, bottom));
  }

  box(i: number): Box {
    return Array.from(this.boxes.subarray(4 * i, 4 * i + 4)) as Box;
  }

  /** The name of a cell for decisions, as the server makes it. */
  key(i: number): string {
    if (!this.tenths) return keyOf(this.box(i));
    return Array.from(this.tenths.subarray(4 * i, 4 * i + 4), (side) =>
      (side / 10).toFixed(1),
    ).join("_");
  }

  /** At most how many cells touch a view: those of the bins of the index that it touches. */
  countNear(view: Box): number {
    return this.grid.spans(this.grown(view)).count;
  }

  /** Cells whose box touches a view. */
  inView(view: Box): Uint32Array {
    const { boxes } = this;
    return this.grid
      .spans(this.grown(view))
      .rows()
      .filter((i) => {
        const j = 4 * i;
        return (
          (boxes[j] as number) <= view[2] &&
          (boxes[j + 2] as number) >= view[0] &&
          (boxes[j + 1] as number) <= view[3] &&
          (boxes[j + 3] as number) >= view[1]
        );
      });
  }

  /** The smallest cell at a place. */
  at(x: number, y: number): number | null {
    let best: number | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (const i of this.inView([x, y, x, y])) {
      const [x0, y0, x1, y1] = this.box(i);
      const size = (x1 - x0) * (y1 - y0);
      if (size < least) [best, least] = [i, size];
    }
    return best;
  }

  /** The row of a key, whose parts are the sides of its box. */
  rowOf(key: string): number | null {
    const sides = key.split("_").map(Number);
    if (sides.length !== 4 || !sides.every(Number.isFinite)) return null;
    const [x, y] = [
      ((sides[0] ?? 0) + (sides[2] ?? 0)) / 2,
      ((sides[1] ?? 0) + (sides[3] ?? 0)) / 2,
    ];
    for (const i of this.inView([x - 0.2, y - 0.2, x + 0.2, y + 0.2])) {
      const box = this.box(i);
      if (box.every((side, k) => Math.abs(side - (sides[k] as number)) < 0.12)) return i;
    }
    return null;
  }

  /** One cell for each dot of a view from far, those of `first` classes before others.
   *
   * @param perPixel level-0 px of a screen px; rounded down to a power of two, so that few are made.
   */
  dots(perPixel: number, first: readonly boolean[]): Uint32Array {
    const level = Math.max(0, Math.floor(Math.log2(Math.max(1, perPixel))));
    const known = this.thinned.get(level);
    if (known) return known;
    const side = 2 ** level * DOT_PX;
    const columns = Math.ceil((this.grid.width + 1) / side);
    const taken = new Uint8Array(columns * Math.ceil((this.grid.height + 1) / side));
    const kept = new Uint32Array(this.count);
    let count = 0;
    // Two passes: a normal cell must not hide an abnormal one.
    for (const wanted of [true, false]) {
      for (let i = 0; i < this.count; i++) {
        if (Boolean(first[this.labels[i] as number]) !== wanted) continue;
        const bin =
          Math.floor(Math.max(0, this.ys[i] as number) / side) * columns +
          Math.floor(Math.max(0, this.xs[i] as number) / side);
        if (taken[bin]) continue;
        taken[bin] = 1;
        kept[count++] = i;
      }
    }
    const found = kept.slice(0, count);
    this.thinned.set(level, found);
    return found;
  }

  private grown(view: Box): Box {
    const more = this.reach;
    return [view[0] - more, view[1] - more, view[2] + more, view[3] + more];
  }
}

/** The name of a cell by its box: one decimal a side, a tie to the even one, as the server rounds.
 *
 * Boxes have two decimals in the reports; a float32 still tells them apart below 131,072 px.
 */
export function keyOf(box: readonly number[]): string {
  return box.map(oneDecimal).join("_");
}

function oneDecimal(side: number): string {
  const value = Math.round(side * 100) / 100;
  // Only quarters are ties in binary numbers: .25 goes down to .2, .75 up to .8.
  const fraction = value - Math.floor(value);
  if (fraction === 0.25) return `${Math.floor(value)}.2`;
  const text = value.toFixed(1);
  return text === "-0.0" ? "0.0" : text;
}

/** Reads cells.bin: the length of a JSON header, the header, then little-endian arrays. */
export function decodeCells(buffer: ArrayBuffer, width: number, height: number): Cells {
  const length = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, length));
  const header = JSON.parse(text) as { count: number; arrays: Described[] };
  const start = 4 + length;
  const read = (name: string) => {
    const of = header.arrays.find((one) => one.name === name);
    if (!of) return null;
    const size = of.shape.reduce((a, b) => a * b, 1);
    return new TYPES[of.dtype](buffer, start + of.offset, size);
  };
  const needed = (name: string) => {
    const found = read(name);
    if (!found) throw new Error(`cells.bin: no array is called ${name}`);
    return found;
  };
  return new Cells(
    needed("boxes") as Float32Array,
    needed("scores") as Float32Array,
    needed("labels") as Uint8Array,
    read("tenths") as Int32Array | null,
    width,
    height,
  );
}
