"use strict";
// A click on a column's head sorts by it, a second click the other way; empty cells stay last.
(() => {
  const table = document.getElementById("slides");
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const collator = new Intl.Collator(undefined, { numeric: true });

  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell || cell.colSpan > 1) return ""; // a slide that has no figures
    return cell.dataset.value ?? cell.textContent.trim();
  };

  function sort(column, direction) {
    const rows = [...body.rows].sort((first, second) => {
      const [a, b] = [value(first, column), value(second, column)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const numbers = [Number(a), Number(b)];
      const order = numbers.some(Number.isNaN) ? collator.compare(a, b) : numbers[0] - numbers[1];
      return direction * order;
    });
    body.append(...rows);
  }

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const numeric = head.classList.contains("number") || column === 2;
      const current = head.getAttribute("aria-sort");
      const first = numeric ? "descending" : "ascending";
      const other = numeric ? "ascending" : "descending";
      const next = current === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      sort(column, next === "ascending" ? 1 : -1);
    });
  });
})();
