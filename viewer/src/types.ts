/** What the server says and is told. Boxes: x_min, y_min, x_max, y_max in level-0 pixels. */

export type Box = [number, number, number, number];
export type Round = "reading" | "adjudication";
export type Verdict = "agree" | "class" | "reject" | "unsure" | "none" | "added" | "removed";
export type Adequacy = "satisfactory" | "unsatisfactory";

export interface Session {
  reader: { id: number; name: string } | null;
  readers: string[];
  mode: "local" | "users";
  read_only: boolean;
  folder: string;
  /** Tells the folder's decisions from those of another one of the same name. */
  store: string;
  version: string;
  notice: string;
}

export type ReviewState = "unread" | "begun" | "signed" | "differs" | "adjudicated";

export interface SlideRow {
  id: string;
  name: string;
  path: string;
  status: "complete" | "failed" | "pending" | "not read";
  section: string;
  rank: number | null;
  unranked: string;
  category: string;
  level: string | null;
  cells: number | null;
  abnormal: number | null;
  per_mm2: number | null;
  excess: number | null;
  score: number | null;
  suspicious: boolean | null;
  set_aside: boolean | null;
  adequacy: string;
  flags: string[];
  warnings: { code: string; text: string }[];
  error: string;
  thumbnail: string | null;
  best: { url: string; label: string; score: number; id: number }[];
  review: {
    state: ReviewState;
    mine: "unread" | "begun" | "signed";
    decided: number;
    readers: number;
    category: string | null;
  };
}

export interface SlideList {
  order: string;
  folder: string;
  slides: SlideRow[];
  flags: Record<string, string>;
}

export interface CellClass {
  /** Its place among the model's classes, as labels count. */
  index: number;
  meaning: string;
  name: string;
  color: string;
  abnormal: boolean;
  grade: string | null;
  key: string | null;
}

export interface Detail {
  id: string;
  name: string;
  path: string;
  /** Hash of its files' content. */
  key: string;
  /** Changes with its report. */
  stamp: string;
  size: { width: number; height: number };
  mpp: number;
  objective: number | null;
  classes: CellClass[];
  suggestion: { category: string; level: string | null; text: string };
  adequacy: { text: string };
  expectation: {
    group: string;
    found: number;
    expected: number;
    low: number;
    high: number;
    text: string;
  }[];
  second_look: boolean;
  warnings: { code: string; text: string }[];
  unread: Box[];
  notice: string;
  counts: Record<string, number>;
  slide: { available: boolean; reason: string; code: string };
  image: {
    width: number;
    height: number;
    tile_size: number;
    overlap: number;
    min_level: number;
    max_level: number;
    url: string;
  } | null;
  overview: string | null;
  next: string | null;
  previous: string | null;
  report: string | null;
}

export interface GalleryCell {
  key: string;
  number: number | null;
  box: Box;
  label: string;
  score: number | null;
  abnormal_score: number | null;
  scores: Record<string, number> | null;
  grades: Record<string, number> | null;
  carrier: boolean;
  why: string[];
  picture: string;
}

export interface GalleryPage {
  groups: { key: string; name: string; count: number }[];
  total: number;
  page: number;
  pages: number;
  size: number;
  um: number;
  cells: GalleryCell[];
}

export interface Said {
  label: string;
  score: number;
  box: Box;
}

export interface CellDecision {
  verdict: Verdict;
  label: string | null;
  note: string;
  box: Box;
  said: Said | null;
  at: string;
  seconds: number;
}

export interface Region {
  box: Box;
  note: string;
}

export interface SlideDecision {
  adequacy: Adequacy | null;
  category: string | null;
  comment: string;
  signed: string | null;
}

export interface Reading {
  version: number;
  cells: Record<string, CellDecision>;
  regions: Record<string, Region>;
  slide: SlideDecision;
  can_undo: boolean;
  can_redo: boolean;
  round: Round;
}

/** What one change has changed; null for what is gone. */
export interface Delta extends Omit<Reading, "cells" | "regions"> {
  delta: true;
  cells: Record<string, CellDecision | null>;
  regions: Record<string, Region | null>;
}

interface Common {
  id: string;
  seconds: number;
  /** What was shown when it was decided: hash of the slide's content, stamp of its report. */
  content?: string;
  stamp?: string;
}

export type Change = Common &
  (
    | {
        kind: "cell";
        key: string;
        verdict: Verdict;
        label?: string | null;
        said?: Said | null;
        box?: Box;
        note?: string;
      }
    | { kind: "region"; key: string; box: Box | null; note?: string }
    | {
        kind: "slide";
        adequacy?: Adequacy | null;
        category?: string | null;
        comment?: string | null;
      }
    | { kind: "sign"; signed: boolean }
    | { kind: "undo" }
    | { kind: "redo" }
  );

export interface Difference {
  subject: "cell" | "slide" | "adequacy";
  key: string;
  box: Box | null;
  views: View[];
}

/** What one reader says; `call` is a class, "no cell" or "unsure", of the slide its category. */
export interface View {
  reader: string;
  mine: boolean;
  call: string | null;
  verdict: Verdict | null;
  label: string | null;
  note: string;
  box: Box | null;
  /** What the report said when that reader decided; null of what he drew. */
  said: Said | null;
}

export interface Differences {
  open: boolean;
  reason: string;
  differences: Difference[];
}

export interface Task {
  id: number;
  slide: string;
  name: string;
  box: Box;
  reason: string;
  score: number;
  done: boolean;
}

export interface Heat {
  um: number;
  x: number;
  y: number;
  step: number;
  columns: number;
  rows: number;
  per_mm2: number[];
  max: number;
}
