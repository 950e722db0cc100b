import type { Desk } from "./desk";
import { cellName, verdictText } from "./desk";
import { isDecided } from "./gallery";
import { trim } from "./geometry";
import { t } from "./strings";

/** The chosen cell: what the report says, why, and the buttons that decide. */
export function Decision({ desk }: { desk: Desk }) {
  const cell = desk.chosen.value;
  const reading = desk.reading.value;
  if (!cell) return null;
  const decision = reading?.cells[cell.key];
  const open = desk.canWrite && desk.outbox.value !== null;
  const added = cell.number === null;
  return (
    <section class="decision card" aria-label={t("decision")} data-testid="decision">
      <h2>
        {cellName(cell)}: {cell.label} {cell.score !== null && trim(cell.score, 3)}
      </h2>
      {cell.grades && <Figures of={cell.grades} />}
      {!cell.grades && cell.scores && <Figures of={cell.scores} />}
      {cell.why.length > 0 && (
        <ul class="why small muted">
          {cell.why.map((one) => (
            <li key={one}>{one}</li>
          ))}
        </ul>
      )}
      <p class="said" data-testid="said">
        {isDecided(decision) ? verdictText(decision.verdict, decision.label) : t("verdict_none")}
        {decision?.note && <q class="muted">{decision.note}</q>}
      </p>
      {desk.outbox.value && (
        <div class="verdicts">
          {!added && (
            <Verdict
              id="agree"
              keys="a"
              text={t("agree")}
              open={open}
              on={() => desk.decide("agree")}
            />
          )}
          {desk.classes.map((one) => (
            <Verdict
              key={one.name}
              id={`class-${one.name}`}
              keys={one.key ?? ""}
              text={one.name}
              color={one.color}
              open={open}
              on={() => desk.decideClass(one)}
            />
          ))}
          <Verdict
            id="reject"
            keys="x"
            text={added ? t("remove") : t("reject")}
            open={open}
            on={() => desk.decide("reject")}
          />
          <Verdict
            id="unsure"
            keys="u"
            text={t("unsure")}
            open={open}
            on={() => desk.decide("unsure")}
          />
          {isDecided(decision) && !added && (
            <Verdict
              id="none"
              keys=""
              text={t("undecide")}
              open={open}
              on={() => desk.decide("none", null, false)}
            />
          )}
          <Verdict id="note" keys="n" text={t("note")} open={open} on={() => desk.openNote()} />
          <Verdict
            id="undo"
            keys="z"
            text={t("undo")}
            open={Boolean(reading?.can_undo)}
            on={() => desk.undo()}
          />
          <Verdict
            id="redo"
            keys="y"
            text={t("redo")}
            open={Boolean(reading?.can_redo)}
            on={() => desk.redo()}
          />
        </div>
      )}
    </section>
  );
}

function Figures({ of }: { of: Record<string, number> }) {
  const best = Object.entries(of)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 4);
  return (
    <p class="figures small">
      {best.map(([name, share]) => (
        <span key={name}>
          {name} <b>{trim(share, 2)}</b>
        </span>
      ))}
    </p>
  );
}

interface VerdictProps {
  id: string;
  keys: string;
  text: string;
  color?: string;
  open: boolean;
  on: () => void;
}

function Verdict({ id, keys, text, color, open, on }: VerdictProps) {
  return (
    <button type="button" data-testid={`verdict-${id}`} disabled={!open} onClick={on}>
      {color && <i class="swatch" style={{ background: color }} />}
      {text}
      {keys && <kbd>{keys}</kbd>}
    </button>
  );
}
