"use strict";
// Search, filter, order and pages of the work list. Slides are HTML as they were written, of which
// those of one page are laid out at a time: of thousands a browser would be slow.
(() => {
  const find = (id) => document.getElementById(id);
  const [search, order, length, page] = ["search", "order", "length", "page"].map(find);
  const [list, rows, shown, told, filters] = ["list", "rows", "shown", "told", "filters"].map(find);
  const data = JSON.parse(find("data").textContent);
  const slides = data.slides.map(([part, show, abnormal, area, name, html], place) => ({
    part, show: ` ${show} `, abnormal, area, name, html, place,
    text: null, // made when first searched for: of thousands of slides it takes a moment
  }));
  const collator = new Intl.Collator(undefined, { numeric: true });
  const orders = {
    "": null,
    name: (a, b) => collator.compare(a.name, b.name),
    abnormal: (a, b) => b.abnormal - a.abnormal,
    area: (a, b) => b.area - a.area,
  };
  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;" };
  let matching = slides;

  document.documentElement.classList.add("scripted");
  document.querySelectorAll(".by-script").forEach((element) => (element.hidden = false));
  if (matchMedia("(max-width: 64rem)").matches) filters.open = false;

  // What can be read of a slide, and its path; escaped as its HTML is.
  function textOf(slide) {
    const path = /title="([^"]*)"/.exec(slide.html);
    const text = slide.html.replace(/<[^>]*>/g, " ");
    return `${path ? path[1] : ""} ${text}`.replace(/\s+/g, " ").toLowerCase();
  }

  function holds(slide, words) {
    slide.text ??= textOf(slide);
    return words.every((word) => slide.text.includes(word));
  }

  function wanted() {
    const key = document.querySelector("input[name=show]:checked").value;
    const words = search.value
      .toLowerCase()
      .split(/\s+/)
      .filter(Boolean)
      .map((word) => word.replace(/[&<>"']/g, (character) => escapes[character]));
    let found = slides;
    if (key) found = found.filter((slide) => slide.show.includes(` ${key} `));
    if (words.length) found = found.filter((slide) => holds(slide, words));
    const by = orders[order.value];
    return by
      ? [...found].sort((a, b) => a.part - b.part || by(a, b) || a.place - b.place)
      : found;
  }

  const pages = () => Math.max(1, Math.ceil(matching.length / Number(length.value)));
  const here = () => Math.min(Math.max(1, Math.trunc(Number(page.value)) || 1), pages());
  const count = (number) => number.toLocaleString("en");

  function lay() {
    const number = here();
    const begin = (number - 1) * Number(length.value);
    const some = matching.slice(begin, begin + Number(length.value));
    const html = [];
    some.forEach((slide, index) => {
      if (!index || some[index - 1].part !== slide.part) {
        const [section, heading] = data.parts[slide.part];
        if (index) html.push("</ol></section>");
        html.push(`<section class="part" aria-labelledby="part-${section}">${heading}`);
        html.push(`<ol class="slides ${section}">`);
      }
      html.push(slide.html);
    });
    if (some.length) html.push("</ol></section>");
    rows.innerHTML = html.join("") || '<p class="muted">No slides.</p>';
    page.value = number;
    page.max = pages();
    tell(begin, some.length, number);
  }

  function tell(begin, laid, number) {
    const part = matching.length < slides.length;
    const of = part ? `${count(matching.length)} that match, of ${count(slides.length)}` : count(slides.length);
    const range = laid ? `Slides ${count(begin + 1)} to ${count(begin + laid)} of ${of}` : `None of ${count(slides.length)} slides matches`;
    shown.value = laid < slides.length || part ? range : "";
    const chosen = document.querySelector("input[name=show]:checked").closest("label");
    const words = [
      `shown: ${chosen.querySelector(".name").textContent}`,
      search.value && `search: ${search.value}`,
      `order: ${order.selectedOptions[0].textContent}`,
      laid < slides.length && "summary.csv has all slides",
    ];
    told.textContent = ` (${words.filter(Boolean).join("; ")})`;
    for (const pager of document.querySelectorAll(".pager")) {
      pager.hidden = pages() === 1;
      pager.querySelector(".pages").textContent = pager.dataset.place === "top" ? `of ${count(pages())}` : `Page ${count(number)} of ${count(pages())}`;
      for (const button of pager.querySelectorAll("button")) {
        // Not disabled: a button that is would lose the keyboard's focus.
        button.setAttribute("aria-disabled", targets[button.dataset.go]() === number);
      }
    }
  }

  const targets = {
    first: () => 1,
    previous: () => Math.max(1, here() - 1),
    next: () => Math.min(pages(), here() + 1),
    last: pages,
  };

  function apply() {
    matching = wanted();
    lay();
  }

  function anew() {
    page.value = 1;
    apply();
  }

  let waiting = 0;
  let opened = filters.open; // on paper they are a list of what there is
  addEventListener("beforeprint", () => {
    opened = filters.open;
    filters.open = true;
  });
  addEventListener("afterprint", () => (filters.open = opened));
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(anew, 120);
  });
  order.addEventListener("change", anew);
  length.addEventListener("change", anew);
  page.addEventListener("change", lay);
  filters.addEventListener("change", anew);
  for (const button of document.querySelectorAll(".pager button")) {
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") === "true") return;
      page.value = targets[button.dataset.go]();
      lay();
      if (button.closest(".pager").dataset.place === "top") return;
      list.focus({ preventScroll: true }); // whoever turned over below reads on above
      list.scrollIntoView();
    });
  }
  // A page that is opened by "back" has its fields as they were left.
  addEventListener("pageshow", apply);
})();
