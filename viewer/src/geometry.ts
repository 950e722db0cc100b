/** Scales and boxes, pure. */

import type { Box } from "./types";

const STEPS = [1, 2, 5];

/** The longest round length in µm whose bar is at most `most` screen px wide. */
export function scaleBar(umPerPixel: number, most: number): { um: number; pixels: number } {
  const limit = umPerPixel * most;
  if (!(limit > 0) || !Number.isFinite(limit)) return { um: 0, pixels: 0 };
  const power = 10 ** Math.floor(Math.log10(limit));
  const step = STEPS.filter((one) => one * power <= limit * (1 + 1e-9)).at(-1) ?? 1;
  const um = step * power;
  return { um, pixels: um / umPerPixel };
}

export function lengthText(um: number): string {
  return um >= 1000 ? `${trim(um / 1000)} mm` : `${trim(um)} µm`;
}

/** Nominal magnification of a view: 0.25 µm per px is what scanners call 40x. */
export function magnification(umPerPixel: number): number {
  return 10 / umPerPixel;
}

export function trim(value: number, digits = 3): string {
  return String(Number(value.toPrecision(digits)));
}

export function centre(box: Box): [number, number] {
  return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
}

/** The box between two corners, whichever way it was drawn. */
export function spanned(x0: number, y0: number, x1: number, y1: number): Box {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}

/** What of a box lies on a slide; null where nothing does. */
export function clipped(box: Box, width: number, height: number): Box | null {
  const inside: Box = [
    Math.max(0, box[0]),
    Math.max(0, box[1]),
    Math.min(width, box[2]),
    Math.min(height, box[3]),
  ];
  return inside[0] < inside[2] && inside[1] < inside[3] ? inside : null;
}
