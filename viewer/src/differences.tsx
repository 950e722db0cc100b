import { useEffect } from "preact/hooks";
import type { Desk } from "./desk";
import { verdictText } from "./desk";
import { type StringKey, t } from "./strings";
import type { Adequacy, Difference, View } from "./types";

/** Where readers who signed off differ, side by side, and what an adjudicator makes of it. */
export function DifferencesPanel({ desk }: { desk: Desk }) {
  useEffect(() => {
    desk.loadDifferences().catch((error: Error) => desk.say(error.message));
  }, [desk.id]);
  const found = desk.differences.value;
  if (!found) return <p class="loading">{t("loading")}</p>;
  const signed = desk.reading.value?.slide.signed;
  return (
    <section
      class="differences card"
      aria-label={t("adjudicateTitle")}
      data-testid="differences-panel"
    >
      <h2>{t("adjudicateTitle")}</h2>
      {!found.open && <p>{found.reason}</p>}
      {!found.open && desk.mayAdjudicate && (
        <p>
          <button
            type="button"
            data-testid="look-anyway"
            onClick={() =>
              desk.loadDifferences(true).catch((error: Error) => desk.say(error.message))
            }
          >
            {t("lookAnyway")}
          </button>{" "}
          <span class="small muted">{t("lookMeans")}</span>
        </p>
      )}
      {found.open && found.differences.length === 0 && <p>{t("noDifferences")}</p>}
      <ol>
        {found.differences.map((one) => (
          <li key={`${one.subject} ${one.key}`} data-testid="difference" data-subject={one.subject}>
            <Row desk={desk} difference={one} />
          </li>
        ))}
      </ol>
      {found.open && (
        <button
          type="button"
          class="primary"
          data-testid="sign-adjudication"
          disabled={Boolean(signed)}
          onClick={() => desk.sign(true)}
        >
          {signed ? t("signed") : t("sign")}
        </button>
      )}
    </section>
  );
}

function Row({ desk, difference }: { desk: Desk; difference: Difference }) {
  const { subject, key, box } = difference;
  const settled = settledText(desk, difference);
  return (
    <>
      <h3>
        {box ? (
          <button type="button" class="link" onClick={() => desk.showPlace(key, box)}>
            {t(`subject_${subject}` as StringKey)}
          </button>
        ) : (
          t(`subject_${subject}` as StringKey)
        )}
        {settled && <span class="tag"> {settled}</span>}
      </h3>
      <div class="views">
        {difference.views.map((view) => (
          <button
            key={view.reader}
            type="button"
            data-testid={`take-${view.reader}`}
            disabled={
              !desk.canWrite || desk.round.value !== "adjudication" || !settles(difference, view)
            }
            onClick={() => take(desk, difference, view)}
          >
            {t("reader_view", { reader: view.reader })}: {viewText(view)}
          </button>
        ))}
        {subject === "cell" &&
          desk.classes.map((one) => (
            <button
              key={one.name}
              type="button"
              class="small"
              disabled={!desk.canWrite || desk.round.value !== "adjudication"}
              onClick={() =>
                desk.adjudicate(key, box, key.startsWith("a") ? "added" : "class", one.name)
              }
            >
              {one.name}
            </button>
          ))}
      </div>
    </>
  );
}

function viewText(view: Difference["views"][number]): string {
  if (view.verdict) return verdictText(view.verdict, view.label);
  if (view.call === "satisfactory" || view.call === "unsatisfactory") return t(view.call);
  return view.call ?? t("nothing");
}

/** Whether a view says anything to decide by. Who left a cell of the report undecided said nothing
 * of it; who has not drawn one that another drew has it as no cell. */
function settles(of: Difference, view: View): boolean {
  return of.subject === "cell"
    ? view.verdict !== null || of.key.startsWith("a")
    : view.call !== null;
}

/** Decides as one reader did, at the place where he has the cell. */
export function take(desk: Desk, of: Difference, view: View): void {
  if (!settles(of, view)) return;
  const { verdict, label } = view;
  const box = view.box ?? of.box;
  if (of.subject === "slide") return desk.ofSlide({ category: view.call });
  if (of.subject === "adequacy") return desk.ofSlide({ adequacy: view.call as Adequacy | null });
  const drawn = of.key.startsWith("a");
  if (verdict === "agree") return desk.adjudicate(of.key, box, "agree", null, view.said);
  if (verdict === "class" || verdict === "added") {
    return desk.adjudicate(of.key, box, drawn ? "added" : "class", label);
  }
  if (verdict === null && drawn) return desk.adjudicate(of.key, box, "removed", null);
  desk.adjudicate(of.key, box, verdict === "unsure" ? "unsure" : "reject", null);
}

function settledText(desk: Desk, of: Difference): string {
  if (desk.round.value !== "adjudication") return "";
  const reading = desk.reading.value;
  if (of.subject === "slide") return reading?.slide.category ?? "";
  if (of.subject === "adequacy") return reading?.slide.adequacy ?? "";
  const decision = reading?.cells[of.key];
  return decision && decision.verdict !== "none"
    ? verdictText(decision.verdict, decision.label)
    : "";
}
