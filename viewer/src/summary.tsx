import type { Desk } from "./desk";
import { trim } from "./geometry";
import { t } from "./strings";
import type { Adequacy, Detail } from "./types";

const BETHESDA = ["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC", "AGC", "AIS", "ADC"];

/** What is said of the whole slide, by the report and by the reader. */
export function Summary({ desk, detail }: { desk: Desk; detail: Detail }) {
  const slide = desk.reading.value?.slide;
  const open = desk.canWrite;
  const categories = [...new Set([...BETHESDA, ...detail.classes.map((one) => one.name)])];
  return (
    <section class="summary card" aria-label={t("summary")} data-testid="summary">
      <p>
        {t("suggestion")}: <b>{detail.suggestion.category}</b>
        {detail.suggestion.text && <span class="muted small"> {detail.suggestion.text}</span>}
      </p>
      <ul class="small muted">
        {detail.expectation.map((one) => (
          <li key={one.group}>
            {t("found", { group: one.group, found: one.found, expected: trim(one.expected) })}
          </li>
        ))}
      </ul>
      {detail.warnings.length > 0 && (
        <details class="small">
          <summary class="warn">{t("warnings", { n: detail.warnings.length })}</summary>
          <ul class="warn">
            {detail.warnings.map((one) => (
              <li key={one.code}>{one.text}</li>
            ))}
          </ul>
        </details>
      )}
      {slide && (
        <>
          <fieldset disabled={!open}>
            <legend>{t("adequacy")}</legend>
            {(["satisfactory", "unsatisfactory"] as Adequacy[]).map((one) => (
              <label key={one}>
                <input
                  type="radio"
                  name="adequacy"
                  data-testid={`adequacy-${one}`}
                  checked={slide.adequacy === one}
                  onChange={() => desk.ofSlide({ adequacy: one })}
                />
                {t(one)}
              </label>
            ))}
          </fieldset>
          <label>
            {t("category")}
            <select
              data-testid="category"
              disabled={!open}
              value={slide.category ?? ""}
              onChange={(event) => desk.ofSlide({ category: event.currentTarget.value || null })}
            >
              <option value="">{t("choose")}</option>
              {categories.map((one) => (
                <option key={one} value={one}>
                  {one}
                </option>
              ))}
            </select>
          </label>
          <label>
            {t("comment")}
            <textarea
              data-testid="comment"
              rows={2}
              maxLength={10_000}
              disabled={!open}
              value={desk.comment.value ?? slide.comment}
              onInput={(event) => desk.typeComment(event.currentTarget.value)}
              onBlur={() => desk.leaveComment()}
            />
          </label>
          <div class="row">
            {slide.signed ? (
              <button type="button" data-testid="unsign" onClick={() => desk.sign(false)}>
                {t("unsign")}
              </button>
            ) : (
              <button
                type="button"
                class="primary"
                data-testid="sign-off"
                disabled={!open}
                onClick={() => desk.sign(true)}
              >
                {t("sign")}
              </button>
            )}
            {slide.signed && (
              <span class="small" data-testid="signed">
                {t("signedAt", { at: when(slide.signed) })}
              </span>
            )}
            {slide.signed && (
              <a href={`#/slide/${desk.id}/differences`} data-testid="differences">
                {t("adjudicate")}
              </a>
            )}
          </div>
        </>
      )}
    </section>
  );
}

function when(text: string): string {
  const at = new Date(text);
  return Number.isNaN(at.valueOf()) ? text : at.toLocaleString();
}
