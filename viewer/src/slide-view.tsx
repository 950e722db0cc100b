import { signal, useSignal } from "@preact/signals";
import OpenSeadragon from "openseadragon";
import { useEffect, useRef } from "preact/hooks";
import type { Desk } from "./desk";
import { centre, clipped, lengthText, magnification, scaleBar, spanned, trim } from "./geometry";
import { draw, type Place, type Scene } from "./overlay";
import { language, t } from "./strings";
import type { Box, Detail } from "./types";

/** µm that are seen at least around a cell that is flown to. */
const AROUND_UM = 120;

/** µm of the box that is put in the middle where somebody draws by keyboard. */
const FIRST_UM = { draw: 16, region: 250, move: 16 };

const CORNER = 12; // screen px within which a corner of a box is taken

interface Seen {
  umPerPixel: number;
  drawn: number;
  meant: number;
}

const brightness = signal(100);
const contrast = signal(100);

export function SlideView({ desk, detail }: { desk: Desk; detail: Detail }) {
  const place = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const navigator = useRef<HTMLDivElement>(null);
  const view = useRef<View | null>(null);
  const seen = useSignal<Seen>({ umPerPixel: detail.mpp, drawn: 0, meant: 0 });
  const hint = useSignal<{ x: number; y: number; text: string } | null>(null);
  const panel = useSignal(false);
  useEffect(() => {
    if (!place.current || !canvas.current || !navigator.current) return;
    const made = new View(desk, detail, place.current, canvas.current, navigator.current);
    made.onSeen = (now) => {
      seen.value = now;
    };
    made.onHint = (now) => {
      hint.value = now;
    };
    view.current = made;
    return () => made.destroy();
  }, [detail.id]);
  const bar = scaleBar(seen.value.umPerPixel, 160);
  const filter = `brightness(${brightness.value}%) contrast(${contrast.value}%)`;
  const mode = desk.mode.value;
  return (
    <section class="slide-view" aria-label={t("slideView")} data-testid="slide-view">
      <div class="stage" style={{ "--picture": filter }}>
        <div class="osd" ref={place} />
        <canvas class={`overlay ${mode}`} ref={canvas} data-testid="overlay" />
        {hint.value && (
          <div class="hint" style={{ left: `${hint.value.x}px`, top: `${hint.value.y}px` }}>
            {hint.value.text}
          </div>
        )}
        <div class="minimap" ref={navigator} />
        <div class="scale">
          <div class="bar" style={{ width: `${bar.pixels}px` }} />
          <span data-testid="scale-bar">{lengthText(bar.um)}</span>
        </div>
        <div class="mag" data-testid="magnification">
          {t("magnified", {
            mag: trim(magnification(seen.value.umPerPixel), 2),
            um: trim(seen.value.umPerPixel, 3),
          })}
          {seen.value.meant > 0 && ` · ${t("someDrawn", { n: seen.value.meant })}`}
        </div>
        {mode !== "look" && (
          <p class="mode" role="note">
            {t(mode === "draw" ? "drawHelp" : mode === "region" ? "regionHelp" : "moveHelp")}
          </p>
        )}
        {panel.value && (
          <div class="picture card">
            <Slider label={t("brightness")} value={brightness} />
            <Slider label={t("contrastLabel")} value={contrast} />
            <button
              type="button"
              onClick={() => {
                brightness.value = 100;
                contrast.value = 100;
              }}
            >
              {t("reset")}
            </button>
          </div>
        )}
      </div>
      <div class="tools" role="toolbar" aria-label={t("slide")} data-language={language.value}>
        <Tool label={t("zoomIn")} text="+" id="zoom-in" onClick={() => view.current?.zoom(1.6)} />
        <Tool
          label={t("zoomOut")}
          text="−"
          id="zoom-out"
          onClick={() => view.current?.zoom(1 / 1.6)}
        />
        <Tool
          label={t("whole")}
          text={t("whole")}
          id="whole"
          onClick={() => view.current?.whole()}
        />
        <Tool label={t("rotate")} text="⟳ 90°" id="rotate" onClick={() => view.current?.turn()} />
        <Tool
          label={t("heatHelp")}
          text={t("heat")}
          id="heat"
          pressed={desk.showHeat.value}
          onClick={() => void desk.toggleHeat()}
        />
        <Tool
          label={t("boxes")}
          text={t("boxes")}
          id="boxes"
          pressed={desk.showBoxes.value}
          onClick={() => {
            desk.showBoxes.value = !desk.showBoxes.value;
          }}
        />
        <Tool
          label={t("contrast")}
          text={t("contrast")}
          id="picture"
          pressed={panel.value}
          onClick={() => {
            panel.value = !panel.value;
          }}
        />
        {desk.outbox.value && (
          <>
            <Tool
              label={t("draw")}
              text={t("draw")}
              id="draw"
              pressed={mode === "draw"}
              disabled={!desk.canWrite}
              onClick={() => view.current?.begin("draw")}
            />
            <Tool
              label={t("region")}
              text={t("region")}
              id="region"
              pressed={mode === "region"}
              disabled={!desk.canWrite}
              onClick={() => view.current?.begin("region")}
            />
            <Tool
              label={t("moveBox")}
              text={t("moveBox")}
              id="move"
              pressed={mode === "move"}
              disabled={!desk.canWrite || !desk.chosen.value}
              onClick={() => view.current?.begin("move")}
            />
          </>
        )}
      </div>
      {detail.image === null && (
        <p class="small warn">{t("slideGone", { reason: detail.slide.reason })}</p>
      )}
    </section>
  );
}

interface ToolProps {
  label: string;
  text: string;
  id: string;
  pressed?: boolean;
  disabled?: boolean;
  onClick: () => void;
}

function Tool({ label, text, id, pressed, disabled, onClick }: ToolProps) {
  return (
    <button
      type="button"
      aria-label={label === text ? undefined : `${text} ${label}`}
      title={label}
      data-testid={`tool-${id}`}
      aria-pressed={pressed}
      disabled={disabled}
      onClick={onClick}
    >
      {text}
    </button>
  );
}

function Slider({ label, value }: { label: string; value: typeof brightness }) {
  return (
    <label>
      {label} {value.value}%
      <input
        type="range"
        min="40"
        max="220"
        value={value.value}
        onInput={(event) => {
          value.value = Number(event.currentTarget.value);
        }}
      />
    </label>
  );
}

/** OpenSeadragon with the overlay, and what a pointer and the keys do on it. */
class View {
  onSeen: (seen: Seen) => void = () => {};
  onHint: (hint: { x: number; y: number; text: string } | null) => void = () => {};
  private readonly osd: OpenSeadragon.Viewer;
  private readonly context: CanvasRenderingContext2D;
  private hovered: number | null = null;
  private frame = 0;
  private grabbed: Grab | null = null;
  private ready = false;
  private waiting: Box | null = null;

  constructor(
    private readonly desk: Desk,
    private readonly detail: Detail,
    private readonly place: HTMLElement,
    private readonly canvas: HTMLCanvasElement,
    navigator: HTMLElement,
  ) {
    const context = canvas.getContext("2d");
    if (!context) throw new Error("this browser has no canvas");
    this.context = context;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.osd = OpenSeadragon({
      element: place,
      tileSources: source(detail) as never,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: true,
      navigatorElement: navigator,
      navigatorAutoFade: false,
      animationTime: calm ? 0 : 0.4,
      springStiffness: 9,
      maxZoomPixelRatio: 6,
      minZoomImageRatio: 0.7,
      visibilityRatio: 0.3,
      imageLoaderLimit: 6,
      timeout: 60_000,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false },
      gestureSettingsPen: { clickToZoom: false },
    } as OpenSeadragon.Options);
    this.listen();
    desk.fly = (box) => this.fly(box);
    desk.watch(() => this.later(this.scene()));
  }

  destroy(): void {
    cancelAnimationFrame(this.frame);
    this.desk.fly = () => {};
    this.osd.destroy();
  }

  zoom(by: number): void {
    this.osd.viewport.zoomBy(by);
    this.osd.viewport.applyConstraints();
  }

  whole(): void {
    this.osd.viewport.goHome();
  }

  turn(): void {
    this.osd.viewport.setRotation((this.osd.viewport.getRotation() + 90) % 360);
  }

  begin(mode: "draw" | "region" | "move"): void {
    if (this.desk.mode.value === mode) return this.desk.look();
    const chosen = this.desk.chosen.value;
    const box = mode === "move" && chosen ? this.desk.boxOf(chosen) : null;
    this.desk.begin(mode, box);
    this.canvas.parentElement?.querySelector<HTMLElement>(".openseadragon-canvas")?.focus();
  }

  /** Moves a box that is drawn by keyboard; the first key puts it in the middle of the view. */
  nudge(dx: number, dy: number, size: boolean): void {
    const mode = this.desk.mode.value;
    if (mode === "look") return;
    const step = 4 / this.pixelsPerLevel0();
    const now = this.desk.draft.value ?? this.middle(FIRST_UM[mode]);
    const [x0, y0, x1, y1] = now;
    const [mx, my] = [dx * step, dy * step];
    const next: Box = size
      ? [x0, y0, Math.max(x0 + 2, x1 + mx), Math.max(y0 + 2, y1 + my)]
      : [x0 + mx, y0 + my, x1 + mx, y1 + my];
    this.desk.draft.value = clipped(next, this.detail.size.width, this.detail.size.height) ?? now;
  }

  private listen(): void {
    const { osd, desk } = this;
    osd.addHandler("open", () => {
      this.ready = true;
      if (this.waiting) this.fly(this.waiting, true);
      this.later(this.scene());
    });
    osd.addHandler("update-viewport", () => this.paint(this.scene()));
    osd.addHandler("resize", () => this.later(this.scene()));
    osd.addHandler("canvas-key", (event) => {
      const key = (event.originalEvent as KeyboardEvent).key;
      const ours = !/^(Arrow|\+|-|=)/.test(key) || desk.mode.value !== "look";
      if (ours) (event as { preventDefaultAction?: boolean }).preventDefaultAction = true;
    });
    osd.addHandler("canvas-click", (event) => {
      if (!event.quick || desk.mode.value !== "look") return;
      const [x, y] = this.toSlide(event.position.x, event.position.y);
      const row = desk.cells.value?.at(x, y) ?? null;
      if (row !== null) desk.chooseRow(row);
    });
    this.place.addEventListener("pointermove", (event) => this.hover(event));
    this.place.addEventListener("pointerleave", () => {
      this.hovered = null;
      this.onHint(null);
      this.later(this.scene());
    });
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    this.canvas.addEventListener("pointermove", (event) => this.drag(event));
    this.canvas.addEventListener("pointerup", () => this.drop());
    this.canvas.addEventListener("wheel", (event) => {
      this.zoom(event.deltaY < 0 ? 1.25 : 0.8);
      event.preventDefault();
    });
    this.place.parentElement?.addEventListener("keydown", (event) => this.key(event));
  }

  private key(event: KeyboardEvent): void {
    if (this.desk.mode.value === "look") return;
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const move = moves[event.key];
    if (move) this.nudge(...move, event.shiftKey);
    else if (event.key === "Enter") {
      if (!this.desk.draft.value) this.nudge(0, 0, false);
      else if (!event.repeat) this.desk.keepDraft(); // held, it has not been seen
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private hover(event: PointerEvent): void {
    const cells = this.desk.cells.value;
    if (!cells || event.buttons) return;
    const frame = this.place.getBoundingClientRect();
    const [sx, sy] = [event.clientX - frame.left, event.clientY - frame.top];
    const row = cells.at(...this.toSlide(sx, sy));
    if (row !== this.hovered) {
      this.hovered = row;
      this.later(this.scene());
    }
    const text = row === null ? "" : this.desk.context(row);
    this.onHint(text ? { x: sx + 14, y: sy + 14, text } : null);
  }

  private grab(event: PointerEvent): void {
    const [x, y] = this.toSlide(event.offsetX, event.offsetY);
    this.canvas.setPointerCapture(event.pointerId);
    const box = this.desk.draft.value;
    this.grabbed = grabOf(
      box,
      x,
      y,
      CORNER / this.pixelsPerLevel0(),
      this.desk.mode.value === "move",
    );
  }

  private drag(event: PointerEvent): void {
    if (!this.grabbed) return;
    const [x, y] = this.toSlide(event.offsetX, event.offsetY);
    const box = dragged(this.grabbed, x, y);
    this.desk.draft.value = clipped(box, this.detail.size.width, this.detail.size.height);
  }

  private drop(): void {
    const { grabbed } = this;
    this.grabbed = null;
    const box = this.desk.draft.value;
    if (!grabbed || !box) return;
    const least = 6 / this.pixelsPerLevel0();
    if (box[2] - box[0] < least || box[3] - box[1] < least) {
      this.desk.draft.value = null; // a click, no box
    } else if (this.desk.mode.value !== "move") {
      this.desk.keepDraft();
    }
  }

  private fly(box: Box, at_once = false): void {
    if (!this.ready) {
      this.waiting = box;
      return;
    }
    const [x, y] = centre(box);
    const around = AROUND_UM / this.detail.mpp;
    const side = Math.max(around, 2 * (box[2] - box[0]), 2 * (box[3] - box[1]));
    const width = this.detail.size.width;
    const rect = new OpenSeadragon.Rect(
      (x - side / 2) / width,
      (y - side / 2) / width,
      side / width,
      side / width,
    );
    this.osd.viewport.fitBounds(rect, at_once);
  }

  private middle(um: number): Box {
    const frame = this.place.getBoundingClientRect();
    const [x, y] = this.toSlide(frame.width / 2, frame.height / 2);
    const half = um / this.detail.mpp / 2;
    return spanned(x - half, y - half, x + half, y + half);
  }

  private scene(): Scene {
    const { desk, detail } = this;
    const reading = desk.reading.value;
    const chosen = desk.chosen.value;
    return {
      width: detail.size.width,
      height: detail.size.height,
      cells: desk.cells.value,
      classes: desk.byLabel.value,
      decisions: desk.byRow.value,
      added: Object.values(reading?.cells ?? {}).filter((one) => !one.said),
      chosen: chosen ? desk.boxOf(chosen) : null,
      hovered: this.hovered,
      regions: Object.values(reading?.regions ?? {}),
      task: desk.task.value?.box ?? null,
      unread: detail.unread,
      heat: desk.showHeat.value ? desk.heat.value : null,
      boxes: desk.showBoxes.value,
      draft: desk.draft.value,
    };
  }

  private later(scene: Scene): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint(scene));
  }

  private paint(scene: Scene): void {
    if (!this.osd.viewport || !this.ready) return;
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const start = performance.now();
    const drawn = draw(this.context, scene, this.frameOf(width, height), ratio);
    canvas.dataset.cells = String(drawn.cells);
    canvas.dataset.mode = drawn.mode;
    canvas.dataset.ms = (performance.now() - start).toFixed(2);
    this.onSeen({
      umPerPixel: this.detail.mpp / this.pixelsPerLevel0(),
      drawn: drawn.cells,
      meant: drawn.meant,
    });
  }

  private frameOf(width: number, height: number): Place {
    const { a, b, e, f } = this.affine();
    const back = (px: number, py: number) => this.toSlide(px, py);
    const seen = [back(0, 0), back(width, 0), back(0, height), back(width, height)];
    const [xs, ys] = [seen.map(([x]) => x), seen.map(([, y]) => y)];
    const view: Box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
    return { a, b, e, f, view };
  }

  private affine(): { a: number; b: number; e: number; f: number } {
    const { viewport } = this.osd;
    const zero = viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
    const one = viewport.pixelFromPoint(new OpenSeadragon.Point(1, 0), true);
    const width = this.detail.size.width;
    return { a: (one.x - zero.x) / width, b: -(one.y - zero.y) / width, e: zero.x, f: zero.y };
  }

  private pixelsPerLevel0(): number {
    const { a, b } = this.affine();
    return Math.hypot(a, b);
  }

  private toSlide(px: number, py: number): [number, number] {
    const { a, b, e, f } = this.affine();
    const size = a * a + b * b;
    const [x, y] = [px - e, py - f];
    return [(a * x - b * y) / size, (b * x + a * y) / size];
  }
}

/** What of a box is held: a corner (the one across stays), all of it, or a new one begins. */
export interface Grab {
  anchor: [number, number];
  box: Box | null;
}

export function grabOf(box: Box | null, x: number, y: number, near: number, moving: boolean): Grab {
  if (box) {
    const [x0, y0, x1, y1] = box;
    for (const [cx, cy, ax, ay] of [
      [x0, y0, x1, y1],
      [x1, y0, x0, y1],
      [x0, y1, x1, y0],
      [x1, y1, x0, y0],
    ] as const) {
      if (Math.abs(cx - x) < near && Math.abs(cy - y) < near)
        return { anchor: [ax, ay], box: null };
    }
    if (moving && x >= x0 && x < x1 && y >= y0 && y < y1) return { anchor: [x, y], box };
  }
  return { anchor: [x, y], box: null };
}

export function dragged(grab: Grab, x: number, y: number): Box {
  const [ax, ay] = grab.anchor;
  if (!grab.box) return spanned(ax, ay, x, y);
  const [x0, y0, x1, y1] = grab.box;
  return [x0 + x - ax, y0 + y - ay, x1 + x - ax, y1 + y - ay];
}

function source(detail: Detail): object {
  const { image } = detail;
  if (image === null) return { type: "image", url: detail.overview ?? "data:," };
  return {
    width: image.width,
    height: image.height,
    tileSize: image.tile_size,
    tileOverlap: image.overlap,
    minLevel: image.min_level,
    maxLevel: image.max_level,
    getTileUrl: (level: number, x: number, y: number) =>
      image.url.replace("{z}", String(level)).replace("{x}", String(x)).replace("{y}", String(y)),
  };
}
