import { useEffect, useMemo } from "preact/hooks";
import { Decision } from "./decision";
import { Desk } from "./desk";
import { Dialogs } from "./dialogs";
import { DifferencesPanel } from "./differences";
import { Gallery } from "./gallery";
import { keyOf } from "./keys";
import { hindrance, waiting } from "./outbox";
import { SlideView } from "./slide-view";
import { go, list, loadList, route, session } from "./state";
import { t } from "./strings";
import { Summary } from "./summary";
import type { Detail } from "./types";
import { nextUnread } from "./worklist";

export function SlidePage({ id }: { id: string }) {
  const desk = useMemo(() => new Desk(id), [id]);
  const where = route.value;
  const differing = where.at === "slide" && where.differences;
  useEffect(() => {
    if (where.at === "slide") void desk.open(where.task, where.key);
    const key = (event: KeyboardEvent) => onKey(event, desk);
    const active = () => desk.attention.active();
    const send = () => desk.sendComment();
    window.addEventListener("keydown", key);
    window.addEventListener("pagehide", send);
    window.addEventListener("pointermove", active);
    return () => {
      window.removeEventListener("keydown", key);
      window.removeEventListener("pagehide", send);
      window.removeEventListener("pointermove", active);
      desk.close();
      void loadList();
    };
  }, [desk]);
  useEffect(() => {
    if (!differing) void desk.leaveDifferences();
  }, [differing]);
  const detail = desk.detail.value;
  useEffect(() => {
    if (detail) document.title = `${detail.name} · CytoLibra`;
  }, [detail?.name]);
  if (desk.problem.value) {
    return (
      <p class="banner bad" role="alert">
        {desk.problem.value} <a href="#/">{t("back")}</a>
      </p>
    );
  }
  if (!detail) return <p class="loading">{t("loading")}</p>;
  return (
    <div class="slide-page">
      <SlideHead desk={desk} detail={detail} />
      <div class="desk">
        <div class="left">
          {differing ? <DifferencesPanel desk={desk} /> : <Gallery desk={desk} />}
        </div>
        <div class="right">
          <SlideView desk={desk} detail={detail} />
          <div class="below">
            <Decision desk={desk} />
            <Summary desk={desk} detail={detail} />
          </div>
          <Regions desk={desk} />
        </div>
      </div>
      <Dialogs desk={desk} />
    </div>
  );
}

function SlideHead({ desk, detail }: { desk: Desk; detail: Detail }) {
  return (
    <div class="slide-head">
      <h1>{detail.name}</h1>
      <SaveState desk={desk} />
      <nav aria-label={t("slide")}>
        <button
          type="button"
          data-testid="previous-slide"
          disabled={!detail.previous}
          onClick={() => detail.previous && go(`#/slide/${detail.previous}`)}
        >
          {t("previous")}
        </button>
        <button type="button" data-testid="next-slide" onClick={() => toNext(desk)}>
          {t("next")}
        </button>
        {detail.report && (
          <a href={detail.report} target="_blank" rel="noopener">
            {t("openReport")}
          </a>
        )}
        <button
          type="button"
          data-testid="help"
          onClick={() => {
            desk.dialog.value = { name: "help" };
          }}
        >
          {t("help")} <kbd>?</kbd>
        </button>
      </nav>
      {desk.message.value && (
        <p class="banner warn" role="alert" data-testid="message">
          {desk.message.value}
        </p>
      )}
    </div>
  );
}

/** Whether all is with the server: what was decided on slides that were left, too. */
function SaveState({ desk }: { desk: Desk }) {
  const [n, why] = [waiting.value + (desk.isTyping.value ? 1 : 0), hindrance.value];
  if (!desk.outbox.value && n === 0) return null;
  const state = n === 0 ? "saved" : why !== null ? "offline" : "sending";
  return (
    <span class={`save ${state}`} data-testid="save-state" data-state={state} role="status">
      {n === 0 ? t("saved") : t("unsaved", { n })}
      {state === "offline" && <small> {why || t("offline")}</small>}
    </span>
  );
}

/** Regions that are marked as read in full, with a way to each and one to take it away. */
function Regions({ desk }: { desk: Desk }) {
  const regions = Object.entries(desk.reading.value?.regions ?? {});
  if (!regions.length) return null;
  return (
    <ul class="regions small">
      {regions.map(([key, region], i) => (
        <li key={key} data-testid="region-mark">
          <button type="button" class="link" onClick={() => desk.fly(region.box)}>
            {t("region")} {i + 1}
          </button>
          <button
            type="button"
            class="link"
            disabled={!desk.canWrite}
            onClick={() => desk.removeRegion(key)}
          >
            {t("regionRemove")}
          </button>
        </li>
      ))}
    </ul>
  );
}

function toNext(desk: Desk): void {
  const slides = list.value?.slides ?? [];
  const unread = session.value?.read_only ? null : nextUnread(slides, desk.id);
  const next = unread ?? desk.detail.value?.next;
  go(next ? `#/slide/${next}` : "#/");
}

function onKey(event: KeyboardEvent, desk: Desk): void {
  const target = event.target as HTMLElement;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) return;
  if (event.key.startsWith("Arrow") && target.closest(".stage, .rows")) return; // moves the slide
  const what = keyOf(event);
  if (!what) return;
  if (what.do === "held") return event.preventDefault(); // nor is a button pressed by it
  const dialog = desk.dialog.value;
  if (dialog?.name === "class" && what.do === "class") {
    event.preventDefault();
    return desk.decideKey(what.key);
  }
  if (dialog) return;
  if (what.do === "escape") return desk.look();
  if (what.do === "fly" && /^(BUTTON|A)$/.test(target.tagName)) return; // Enter presses it
  event.preventDefault();
  if (what.do === "next") void desk.step(1);
  else if (what.do === "previous") void desk.step(-1);
  else if (what.do === "class") desk.decideKey(what.key);
  else if (what.do === "undo") desk.undo();
  else if (what.do === "redo") desk.redo();
  else if (what.do === "note") desk.openNote();
  else if (what.do === "help") desk.dialog.value = { name: "help" };
  else if (what.do === "next-slide") toNext(desk);
  else if (what.do === "previous-slide") {
    const before = desk.detail.value?.previous;
    if (before) go(`#/slide/${before}`);
  } else if (what.do === "fly") {
    const cell = desk.chosen.value;
    if (cell) desk.fly(desk.boxOf(cell));
  } else if (what.do === "press") {
    document.querySelector<HTMLElement>(`[data-testid="tool-${what.tool}"]`)?.click();
  } else if (what.do === "verdict") desk.decide(what.verdict);
}
