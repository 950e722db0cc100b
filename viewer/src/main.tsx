import { render } from "preact";
import { App } from "./app";
import { findLanguage } from "./strings";
import "./styles.css";

// OpenSeadragon writes a style sheet into the page, which the page's policy forbids, unless there is
// one already. An element that is only called so does: its rule (no focus ring on touch screens)
// is not missed.
const taken = document.createElementNS("urn:cytolibra:none", "style");
taken.setAttribute("data-openseadragon-mobile-css", "true");
document.head.append(taken);

findLanguage();
const place = document.getElementById("app");
if (place) render(<App />, place);
