import type { Desk, GallerySort } from "./desk";
import { cellName, verdictText } from "./desk";
import { trim } from "./geometry";
import { type StringKey, t } from "./strings";
import type { CellDecision, GalleryCell } from "./types";

const NAMES: Record<string, StringKey> = {
  all: "groupAll",
  abnormal: "groupAbnormal",
  carriers: "groupCarriers",
  unsure: "groupUnsure",
  added: "groupAdded",
};

const BAR_UM = 10;

/** Close-ups of cells at one scale, grouped, the most suspicious first. */
export function Gallery({ desk }: { desk: Desk }) {
  const page = desk.gallery.value;
  if (!page) return null;
  const reading = desk.reading.value;
  const cells = desk.shown;
  const decided = cells.filter((cell) => isDecided(reading?.cells[cell.key])).length;
  const groups = [
    ...page.groups.filter((one) => one.key !== "added"),
    { key: "added", name: "added", count: desk.added().length },
  ];
  return (
    <section class="gallery" aria-label={t("gallery")}>
      <div class="gallery-head">
        <select
          aria-label={t("groups")}
          data-testid="group"
          value={desk.group.value}
          onChange={({ currentTarget: list }) => {
            const opened = desk.openGroup(list.value);
            void opened.then(() => {
              list.value = desk.group.value; // it may not have come
            });
          }}
        >
          {groups.map((group) => (
            <option key={group.key} value={group.key}>
              {groupName(group.key, group.name)} ({group.count})
            </option>
          ))}
        </select>
        <select
          aria-label={t("sort")}
          data-testid="gallery-sort"
          value={desk.sort.value}
          onChange={({ currentTarget: list }) => {
            const opened = desk.openGroup(desk.group.value, 0, list.value as GallerySort);
            void opened.then(() => {
              list.value = desk.sort.value;
            });
          }}
        >
          <option value="suspicion">{t("sortSuspicion")}</option>
          <option value="score">{t("score")}</option>
          <option value="place">{t("sortPlace")}</option>
        </select>
        <span class="um" title={`${BAR_UM} µm`}>
          <span class="bar" style={{ width: `${(BAR_UM / page.um) * 7.2}rem` }} /> {BAR_UM} µm
        </span>
        <span class="muted small" data-testid="progress">
          {t("progress", { n: decided, of: cells.length })}
        </span>
      </div>
      {cells.length === 0 && <p class="empty">{t("galleryEmpty")}</p>}
      <ul class="cards">
        {cells.map((cell) => (
          <Card key={cell.key} cell={cell} desk={desk} decision={reading?.cells[cell.key]} />
        ))}
      </ul>
      <div class="pager">
        <button
          type="button"
          data-testid="previous-page"
          aria-label={t("previousPage")}
          disabled={desk.page.value === 0}
          onClick={() => void desk.openGroup(desk.group.value, desk.page.value - 1)}
        >
          ‹
        </button>
        <span data-testid="page">
          {t("page", { n: desk.page.value + 1, of: Math.max(1, desk.pages) })}
        </span>
        <button
          type="button"
          data-testid="next-page"
          aria-label={t("nextPage")}
          disabled={desk.page.value + 1 >= desk.pages}
          onClick={() => void desk.openGroup(desk.group.value, desk.page.value + 1)}
        >
          ›
        </button>
      </div>
    </section>
  );
}

interface CardProps {
  cell: GalleryCell;
  desk: Desk;
  decision: CellDecision | undefined;
}

function Card({ cell, desk, decision }: CardProps) {
  const chosen = desk.chosen.value?.key === cell.key;
  const said = isDecided(decision) ? verdictText(decision.verdict, decision.label) : "";
  const color = desk.classOf(cell.label)?.color ?? "#000";
  const score = cell.score === null ? "" : trim(cell.score, 2);
  return (
    <li>
      <button
        type="button"
        class={`cell ${decision?.verdict ?? "none"} ${chosen ? "chosen" : ""}`}
        data-testid="gallery-card"
        data-key={cell.key}
        data-verdict={decision?.verdict ?? "none"}
        aria-current={chosen ? "true" : undefined}
        title={cell.why.join("\n")}
        ref={(element) => {
          if (chosen && element) intoSight(element);
        }}
        onClick={() => desk.choose(cell)}
      >
        <img src={cell.picture} alt="" loading="lazy" />
        <span class="unseen">{cellName(cell)}, </span>
        <span class="label">
          <i class="swatch" style={{ background: color }} />
          {cell.label} <b>{score}</b>
        </span>
        <span class="said">{said || <span class="unseen">{t("verdict_none")}</span>}</span>
      </button>
    </li>
  );
}

/** Scrolls the gallery, where it scrolls by itself, and never the page: the slide stays in sight. */
function intoSight(card: HTMLElement): void {
  const list = card.closest("ul");
  if (!list || list.scrollHeight <= list.clientHeight) return;
  const [inner, outer] = [card.getBoundingClientRect(), list.getBoundingClientRect()];
  const room = 6; // the frame of the chosen one
  if (inner.top < outer.top) list.scrollTop -= outer.top - inner.top + room;
  if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom + room;
}

export function isDecided(decision: CellDecision | undefined): decision is CellDecision {
  return decision !== undefined && decision.verdict !== "none" && decision.verdict !== "removed";
}

function groupName(key: string, name: string): string {
  const known = NAMES[key];
  return known ? t(known) : name;
}
