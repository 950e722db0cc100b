"use strict";
// Choosing a cell, on the slide or in the gallery, marks it in both and shows it large.
(() => {
  const cells = [...document.querySelectorAll(".cell")];
  const panel = document.getElementById("closeup");
  const both = (number) => document.querySelectorAll(`[data-cell="${number}"]`);
  let chosen = null;

  function term(list, name, value) {
    list.append(
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    );
  }

  function showCloseup(cell) {
    const { cell: number, meaning, score, x, y, why } = cell.dataset;
    const list = document.createElement("dl");
    term(list, "Class", cell.dataset.class);
    if (meaning) term(list, "Meaning", meaning);
    term(list, "Score", score);
    if (why) term(list, "Carries", `the suggestion “${why}”`);
    term(list, "Centre", `x ${x}, y ${y} (level-0 pixels)`);
    term(list, "Id in cells.csv", number);
    const picture = cell.querySelector(".picture").cloneNode(true);
    picture.style.cssText = cell.style.cssText;
    panel.replaceChildren(picture, list);
    panel.hidden = false;
  }

  function choose(cell) {
    if (chosen) both(chosen.dataset.cell).forEach((part) => part.classList.remove("selected"));
    chosen = cell;
    if (!cell) {
      panel.hidden = true;
      return;
    }
    both(cell.dataset.cell).forEach((part) => part.classList.add("selected"));
    const mark = document.getElementById(`mark-${cell.dataset.cell}`);
    if (mark && document.activeElement !== mark) mark.parentNode.append(mark);
    showCloseup(cell);
  }

  function step(direction) {
    const visible = cells.filter((cell) => cell.offsetParent !== null);
    const place = visible.indexOf(chosen);
    const next = visible[Math.min(Math.max(place + direction, 0), visible.length - 1)];
    if (!next) return;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
    choose(next);
  }

  document.addEventListener("click", (event) => {
    const part = event.target.closest("[data-cell]");
    if (!part) return;
    event.preventDefault();
    const cell = document.getElementById(`cell-${part.dataset.cell}`);
    if (part !== cell) cell.scrollIntoView({ block: "nearest" });
    choose(cell === chosen && part === cell ? null : cell);
  });

  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") choose(null);
    else if (chosen && event.key === "ArrowRight") step(1);
    else if (chosen && event.key === "ArrowLeft") step(-1);
    else return;
    event.preventDefault();
  });

  document.addEventListener("change", (event) => {
    if (event.target.name === "only" && chosen && chosen.offsetParent === null) choose(null);
  });

  const linked = cells.find((cell) => `#${cell.id}` === location.hash);
  if (linked) choose(linked);
})();
