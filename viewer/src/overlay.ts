/** Draws cells, regions, unread areas and the heat map over the slide, as vectors on a canvas. */

import { type Cells, DOT_PX } from "./cells";
import type { Box, CellClass, CellDecision, Heat, Region } from "./types";

/** Of more in view dots are drawn: where several meet, one that is abnormal before others. */
export const MOST = 12_000;

/** Screen pixels below which the boxes of a slide are drawn as dots. */
const SMALLEST = 5;

/** Screen pixels from which on a cell's class is written beside it. */
const NAMED = 56;

export interface Scene {
  width: number;
  height: number;
  cells: Cells | null;
  /** By their labels. */
  classes: readonly CellClass[];
  decisions: ReadonlyMap<number, CellDecision>;
  added: readonly CellDecision[];
  chosen: Box | null;
  hovered: number | null;
  regions: readonly Region[];
  task: Box | null;
  unread: readonly Box[];
  heat: Heat | null;
  boxes: boolean;
  draft: Box | null;
}

/** From level-0 pixels to the canvas: x' = a x + b y + e, y' = -b x + a y + f (turned, scaled). */
export interface Place {
  a: number;
  b: number;
  e: number;
  f: number;
  view: Box;
}

export interface Drawn {
  mode: "boxes" | "dots";
  cells: number;
  /** How many there are about, where a dot stands for several; else 0. */
  meant: number;
}

let layer: HTMLCanvasElement | null = null;

export function draw(
  context: CanvasRenderingContext2D,
  scene: Scene,
  place: Place,
  ratio: number,
): Drawn {
  const { canvas } = context;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  // The picture's own frame: lines keep their width, whatever the scale.
  context.setTransform(
    place.a * ratio,
    -place.b * ratio,
    place.b * ratio,
    place.a * ratio,
    place.e * ratio,
    place.f * ratio,
  );
  const scale = Math.hypot(place.a, place.b);
  const line = 1 / scale;
  if (scene.heat) drawHeat(context, scene.heat, place.view);
  drawUnread(context, scene.unread, line);
  for (const region of scene.regions) {
    outline(context, region.box, "#1c7c3c", 2.5 * line, [8 * line, 4 * line]);
  }
  if (scene.task) outline(context, scene.task, "#b0368c", 3 * line, [12 * line, 6 * line]);
  let drawn: Drawn = { mode: "boxes", cells: 0, meant: 0 };
  if (scene.boxes) drawn = drawCells(context, scene, place, line, ratio);
  if (scene.chosen) {
    outline(context, grown(scene.chosen, 3 * line), "#ffffff", 5 * line);
    outline(context, grown(scene.chosen, 3 * line), "#0a66c2", 3 * line);
  }
  if (scene.draft) {
    outline(context, scene.draft, "#ffffff", 4 * line);
    outline(context, scene.draft, "#b0368c", 2 * line, [6 * line, 3 * line]);
    context.fillStyle = "#b0368c";
    for (const [x, y] of corners(scene.draft))
      context.fillRect(x - 4 * line, y - 4 * line, 8 * line, 8 * line);
  }
  return drawn;
}

function drawCells(
  context: CanvasRenderingContext2D,
  scene: Scene,
  place: Place,
  line: number,
  ratio: number,
): Drawn {
  const { cells } = scene;
  let drawn: Drawn = { mode: "boxes", cells: 0, meant: 0 };
  if (cells) {
    const near = cells.countNear(place.view);
    const small = cells.reach * 2 < SMALLEST * line;
    if (near > MOST || small) {
      const first = scene.classes.map((one) => one.abnormal);
      const rows = near > MOST ? cells.dots(line, first) : cells.inView(place.view);
      const count = drawDots(context, cells, rows, scene, place, ratio);
      drawn = { mode: "dots", cells: count, meant: near > MOST ? near : 0 };
    } else {
      const rows = cells.inView(place.view);
      scene.classes.forEach((one, label) => {
        drawClass(context, cells, rows, label, one, scene.decisions, line);
      });
      drawn = { mode: "boxes", cells: rows.length, meant: 0 };
    }
    if (!small) {
      for (const decision of scene.decisions.values()) {
        if (touches(decision.box, place.view)) {
          drawDecided(context, decision, scene.classes, line);
        }
      }
    }
    if (scene.hovered !== null) outline(context, cells.box(scene.hovered), "#ffffff", 3 * line);
  }
  for (const decision of scene.added) drawDecided(context, decision, scene.classes, line);
  return drawn;
}

/** Boxes of one class; those that are decided are drawn later. */
function drawClass(
  context: CanvasRenderingContext2D,
  cells: Cells,
  rows: Uint32Array,
  label: number,
  one: CellClass,
  decisions: ReadonlyMap<number, CellDecision>,
  line: number,
): void {
  const { boxes, labels } = cells;
  context.setLineDash([]);
  context.strokeStyle = one.color;
  // Abnormal cells have the thicker line: colour is not the only sign.
  context.lineWidth = (one.abnormal ? 2.2 : 1.2) * line;
  for (const row of rows) {
    if (labels[row] !== label || decisions.has(row)) continue;
    const j = 4 * row;
    const x = boxes[j] as number;
    const y = boxes[j + 1] as number;
    context.strokeRect(x, y, (boxes[j + 2] as number) - x, (boxes[j + 3] as number) - y);
  }
}

/** Squares of some pixels, written as such: a hundred thousand take no longer than ten. */
function drawDots(
  context: CanvasRenderingContext2D,
  cells: Cells,
  rows: Uint32Array,
  scene: Scene,
  place: Place,
  ratio: number,
): number {
  const { width, height } = context.canvas;
  const picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const colors = scene.classes.map((one) => packed(one.color));
  const [a, b] = [place.a * ratio, place.b * ratio];
  const [e, f] = [place.e * ratio, place.f * ratio];
  const side = Math.max(2, Math.round(DOT_PX * ratio));
  const half = side / 2;
  let count = 0;
  for (const row of rows) {
    const cx = cells.xs[row] as number;
    const cy = cells.ys[row] as number;
    const x = Math.round(a * cx + b * cy + e - half);
    const y = Math.round(-b * cx + a * cy + f - half);
    if (x < 0 || y < 0 || x + side > width || y + side > height) continue;
    count++;
    const color = colors[cells.labels[row] as number] ?? 0xff000000;
    for (let from = y * width + x; from < (y + side) * width; from += width) {
      pixels.fill(color, from, from + side);
    }
  }
  layer ??= document.createElement("canvas");
  if (layer.width !== width) layer.width = width;
  if (layer.height !== height) layer.height = height;
  layer.getContext("2d")?.putImageData(picture, 0, 0);
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(layer, 0, 0);
  context.restore();
  return count;
}

/** A colour as the pixels of an ImageData are, seen as little-endian numbers. */
function packed(color: string): number {
  const rgb = Number.parseInt(color.slice(1), 16);
  return (0xff000000 | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
}

function touches(box: Box, view: Box): boolean {
  return box[0] <= view[2] && box[2] >= view[0] && box[1] <= view[3] && box[3] >= view[1];
}

/** A decided cell: never by colour alone: a thick frame, crossed out, or dashed. */
function drawDecided(
  context: CanvasRenderingContext2D,
  decision: CellDecision,
  classes: readonly CellClass[],
  line: number,
): void {
  const { box, verdict } = decision;
  const named = decision.label ?? decision.said?.label;
  const color = classes.find((one) => one.name === named)?.color ?? "#333333";
  if (verdict === "removed") return;
  const dash = verdict === "unsure" ? [4 * line, 3 * line] : [];
  outline(context, box, color, (verdict === "none" ? 1.6 : 3) * line, dash);
  if (verdict === "reject") {
    const path = new Path2D();
    path.moveTo(box[0], box[1]);
    path.lineTo(box[2], box[3]);
    path.moveTo(box[2], box[1]);
    path.lineTo(box[0], box[3]);
    context.stroke(path);
  }
  if ((box[2] - box[0]) / line < NAMED || verdict === "none") return;
  const sign = { agree: "✓ ", class: "→ ", added: "+ ", unsure: "? ", reject: "× " }[verdict] ?? "";
  write(
    context,
    `${sign}${verdict === "reject" ? "" : (named ?? "")}`,
    box[0],
    box[1] - 4 * line,
    color,
    line,
  );
}

function write(
  context: CanvasRenderingContext2D,
  text: string,
  x: number,
  y: number,
  color: string,
  line: number,
): void {
  context.font = `600 ${12 * line}px system-ui, sans-serif`;
  context.lineWidth = 3 * line;
  context.strokeStyle = "#ffffff";
  context.setLineDash([]);
  context.strokeText(text, x, y);
  context.fillStyle = color;
  context.fillText(text, x, y);
}

function drawHeat(context: CanvasRenderingContext2D, heat: Heat, view: Box): void {
  const { x, y, step, columns, rows, per_mm2: values, max } = heat;
  if (!(max > 0)) return;
  const first = Math.max(0, Math.floor((view[0] - x) / step));
  const last = Math.min(columns, Math.ceil((view[2] - x) / step));
  const top = Math.max(0, Math.floor((view[1] - y) / step));
  const bottom = Math.min(rows, Math.ceil((view[3] - y) / step));
  for (let row = top; row < bottom; row++) {
    for (let column = first; column < last; column++) {
      const value = values[row * columns + column] ?? 0;
      if (value <= 0) continue;
      context.fillStyle = heatColor(value / max);
      context.fillRect(x + column * step, y + row * step, step, step);
    }
  }
}

/** From pale yellow to dark red; the darker, the more. */
export function heatColor(share: number): string {
  const at = Math.min(1, Math.sqrt(Math.max(0, share)));
  const [red, green, blue] = [255 - 90 * at, 225 - 200 * at, 120 - 90 * at].map(Math.round);
  return `rgba(${red}, ${green}, ${blue}, ${(0.25 + 0.4 * at).toFixed(3)})`;
}

function drawUnread(context: CanvasRenderingContext2D, boxes: readonly Box[], line: number): void {
  for (const box of boxes) {
    context.save();
    context.beginPath();
    context.rect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
    context.clip();
    context.fillStyle = "rgba(166, 27, 36, 0.15)";
    context.fill();
    const step = 10 * line;
    const [width, height] = [box[2] - box[0], box[3] - box[1]];
    // Of a wide area as many lines as are seen apart, no more.
    const lines = Math.min(400, Math.ceil((width + height) / step));
    const path = new Path2D();
    for (let i = 0; i <= lines; i++) {
      const at = (i * (width + height)) / Math.max(1, lines);
      path.moveTo(box[0] + at, box[1]);
      path.lineTo(box[0] + at - height, box[3]);
    }
    context.strokeStyle = "#a61b24";
    context.setLineDash([]);
    context.lineWidth = line;
    context.stroke(path);
    context.restore();
  }
}

function outline(
  context: CanvasRenderingContext2D,
  box: Box,
  color: string,
  width: number,
  dash: number[] = [],
): void {
  context.strokeStyle = color;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
}

export function corners(box: Box): [number, number][] {
  return [
    [box[0], box[1]],
    [box[2], box[1]],
    [box[0], box[3]],
    [box[2], box[3]],
  ];
}

function grown(box: Box, by: number): Box {
  return [box[0] - by, box[1] - by, box[2] + by, box[3] + by];
}
