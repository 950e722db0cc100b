import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { trim } from "./geometry";
import { go, list } from "./state";
import { type StringKey, t } from "./strings";
import type { ReviewState, SlideRow } from "./types";
import { choose, inWindow, nextUnread, type Sort, type Wanted } from "./worklist";

const ROW = 104; // px, as .slide-row in styles.css

const STATES: Record<ReviewState, StringKey> = {
  unread: "stateUnread",
  begun: "stateBegun",
  signed: "stateSigned",
  differs: "stateDiffers",
  adjudicated: "stateAdjudicated",
};

export function WorklistPage() {
  const wanted = useSignal<Wanted>({ search: "", state: "", flag: "", sort: "suspicion" });
  const shown = useComputed(() => choose(list.value?.slides ?? [], wanted.value));
  const [place, setPlace] = useState(0);
  const all = list.value;
  useEffect(() => {
    document.title = `${t("worklist")} · CytoLibra`;
  }, []);
  if (!all) return <p class="loading">{t("loading")}</p>;
  const set = (change: Partial<Wanted>) => {
    wanted.value = { ...wanted.value, ...change };
    setPlace(0);
  };
  const unread = nextUnread(all.slides, null);
  return (
    <section class="worklist" aria-label={t("worklist")}>
      <h1 class="unseen">{t("worklist")}</h1>
      <div class="tools">
        <label>
          {t("search")}
          <input
            type="search"
            data-testid="search"
            value={wanted.value.search}
            onInput={(event) => set({ search: event.currentTarget.value })}
          />
        </label>
        <label>
          {t("filter")}
          <select
            data-testid="filter-state"
            value={wanted.value.state}
            onChange={(event) => set({ state: event.currentTarget.value })}
          >
            <option value="">{t("all")}</option>
            {Object.entries(STATES).map(([state, key]) => (
              <option key={state} value={state}>
                {t(key)}
              </option>
            ))}
          </select>
        </label>
        <label>
          {t("flags")}
          <select
            data-testid="filter-flag"
            value={wanted.value.flag}
            onChange={(event) => set({ flag: event.currentTarget.value })}
          >
            <option value="">{t("all")}</option>
            {Object.entries(all.flags).map(([flag, text]) => (
              <option key={flag} value={flag}>
                {text}
              </option>
            ))}
          </select>
        </label>
        <label>
          {t("sort")}
          <select
            data-testid="sort"
            value={wanted.value.sort}
            onChange={(event) => set({ sort: event.currentTarget.value as Sort })}
          >
            <option value="suspicion">{t("sortSuspicion")}</option>
            <option value="name">{t("sortName")}</option>
            <option value="cells">{t("sortCells")}</option>
            <option value="state">{t("sortState")}</option>
          </select>
        </label>
        <button
          type="button"
          class="primary"
          data-testid="next-unread"
          disabled={unread === null}
          onClick={() => unread && go(`#/slide/${unread}`)}
        >
          {t("nextUnread")}
        </button>
        <p class="muted" data-testid="shown">
          {t("slidesShown", { n: shown.value.length, of: all.slides.length })}
        </p>
      </div>
      <p class="small muted order">{all.order}</p>
      <Rows slides={shown.value} place={place} onPlace={setPlace} />
    </section>
  );
}

interface RowsProps {
  slides: SlideRow[];
  place: number;
  onPlace: (place: number) => void;
}

/** A list of any length, of which only what is in sight is made. */
function Rows({ slides, place, onPlace }: RowsProps) {
  const box = useRef<HTMLDivElement>(null);
  const [scroll, setScroll] = useState(0);
  const [height, setHeight] = useState(800);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const watch = new ResizeObserver(() => setHeight(element.clientHeight));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  const [first, last] = inWindow(scroll, height, ROW, slides.length);
  const toPlace = (to: number) => {
    const next = Math.max(0, Math.min(slides.length - 1, to));
    onPlace(next);
    const element = box.current;
    if (!element) return;
    if (next * ROW < element.scrollTop) element.scrollTop = next * ROW;
    const bottom = (next + 1) * ROW - element.clientHeight;
    if (bottom > element.scrollTop) element.scrollTop = bottom;
    requestAnimationFrame(() =>
      element
        .querySelector<HTMLElement>(`[data-place="${next}"] a`)
        ?.focus({ preventScroll: true }),
    );
  };
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    toPlace(place + step);
  };
  if (!slides.length) return <p class="empty">{t("noSlides")}</p>;
  return (
    <div
      class="rows"
      ref={box}
      onScroll={(event) => setScroll(event.currentTarget.scrollTop)}
      onKeyDown={onKey}
    >
      <ol
        class="rows-space"
        aria-label={t("worklist")}
        style={{ height: `${slides.length * ROW}px` }}
      >
        {slides.slice(first, last).map((slide, i) => (
          <Row
            key={slide.id}
            slide={slide}
            place={first + i}
            of={slides.length}
            onFocus={() => onPlace(first + i)}
          />
        ))}
      </ol>
    </div>
  );
}

interface RowProps {
  slide: SlideRow;
  place: number;
  of: number;
  onFocus: () => void;
}

function Row({ slide, place, of, onFocus }: RowProps) {
  const complete = slide.status === "complete";
  return (
    <li
      class="slide-row"
      aria-setsize={of}
      aria-posinset={place + 1}
      data-testid="worklist-row"
      data-slide={slide.id}
      data-place={place}
      style={{ top: `${place * ROW}px` }}
    >
      <span class="thumb">
        {slide.thumbnail && <img src={slide.thumbnail} alt="" loading="lazy" />}
      </span>
      <div class="told">
        <h2>
          {slide.rank !== null && <span class="rank">{slide.rank}</span>}
          {complete ? (
            <a href={`#/slide/${slide.id}`} onFocus={onFocus}>
              {slide.name}
            </a>
          ) : (
            <span>{slide.name}</span>
          )}
        </h2>
        <p class="category">
          {complete ? slide.category : <span class="tag bad">{t(slide.status as StringKey)}</span>}
          {slide.unranked && <span class="tag warn">{slide.unranked}</span>}
        </p>
        {complete ? (
          <p class="small muted">
            {t("abnormalCells", { n: slide.abnormal ?? 0, of: slide.cells ?? 0 })}
            {slide.excess !== null && ` · ${t("excess", { n: trim(slide.excess) })}`}
            {slide.score !== null && ` · ${t("score")} ${trim(slide.score)}`}
          </p>
        ) : (
          <p class="small bad">{slide.error}</p>
        )}
        {slide.warnings.length > 0 && (
          <p class="small warn" title={slide.warnings.map((one) => one.text).join("\n")}>
            {t("warnings", { n: slide.warnings.length })}: {slide.warnings[0]?.text}
          </p>
        )}
      </div>
      <div class="best">
        {slide.best.map((one) => (
          <img key={one.url} src={one.url} alt={`${one.label} ${trim(one.score)}`} loading="lazy" />
        ))}
      </div>
      {complete && (
        <div class="review">
          <span class={`state ${slide.review.state}`} data-testid="review-state">
            {t(STATES[slide.review.state])}
          </span>
          {slide.review.mine !== "unread" && (
            <span class="small muted">{t("mine", { state: t(STATES[slide.review.mine]) })}</span>
          )}
          {slide.review.decided > 0 && (
            <span class="small muted">{t("decidedCount", { n: slide.review.decided })}</span>
          )}
          {slide.review.category && <span class="small">{slide.review.category}</span>}
        </div>
      )}
    </li>
  );
}
