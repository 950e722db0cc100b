"use strict";
// Search, filter and order of the work list. What is hidden or moved is the list itself.
(() => {
  const search = document.getElementById("search");
  const order = document.getElementById("order");
  const shown = document.getElementById("shown");
  const filters = document.getElementById("filters");
  const parts = [...document.querySelectorAll(".part")];
  const slides = [...document.querySelectorAll(".slide")].map((element, place) => ({
    element,
    place,
    list: element.parentNode,
    show: new Set(element.dataset.show.split(" ")),
    name: element.querySelector("[title]").textContent,
    path: element.querySelector("[title]").title,
    text: null, // read when first searched for: of thousands of slides it takes a moment
  }));
  const collator = new Intl.Collator(undefined, { numeric: true });
  const orders = {
    "": (a, b) => a.place - b.place,
    name: (a, b) => collator.compare(a.name, b.name) || a.place - b.place,
    abnormal: (a, b) => number(b, "abnormal") - number(a, "abnormal") || a.place - b.place,
    area: (a, b) => number(b, "area") - number(a, "area") || a.place - b.place,
  };

  document.documentElement.classList.add("scripted");
  document.querySelectorAll(".by-script").forEach((element) => (element.hidden = false));
  if (matchMedia("(max-width: 64rem)").matches) filters.open = false;

  function number(slide, name) {
    return Number(slide.element.dataset[name] ?? -1);
  }

  function holds(slide, words) {
    slide.text ??= `${slide.name} ${slide.path} ${slide.element.textContent}`.toLowerCase();
    return words.every((word) => slide.text.includes(word));
  }

  function apply() {
    const key = document.querySelector("input[name=show]:checked").value;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const slide of slides) {
      const visible = (!key || slide.show.has(key)) && (!words.length || holds(slide, words));
      slide.element.hidden = !visible;
      count += visible;
    }
    for (const part of parts) part.hidden = !part.querySelector(".slide:not([hidden])");
    shown.value = count === slides.length ? "" : `${count} of ${slides.length} slides are shown`;
  }

  function sort() {
    const lists = new Map();
    for (const slide of [...slides].sort(orders[order.value])) {
      if (!lists.has(slide.list)) lists.set(slide.list, []);
      lists.get(slide.list).push(slide.element);
    }
    for (const [list, elements] of lists) list.append(...elements);
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
    waiting = setTimeout(apply, 120);
  });
  order.addEventListener("change", sort);
  filters.addEventListener("change", apply);
  // A page that is opened by "back" has its fields as they were left.
  addEventListener("pageshow", () => {
    if (order.value) sort();
    apply();
  });
})();
