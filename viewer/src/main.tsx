import { render } from "preact";
import { App } from "./app";
import { findLanguage } from "./strings";
import "./styles.css";

findLanguage();
const place = document.getElementById("app");
if (place) render(<App />, place);
