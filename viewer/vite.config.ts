import { defineConfig } from "vite";

// The server has the page at "/" and all that it loads below "/assets/".
export default defineConfig({
  base: "/assets/",
  build: {
    outDir: "../pipeline/review/assets",
    assetsDir: "",
    emptyOutDir: true,
    assetsInlineLimit: 0, // no data: URLs, the page's own policy has to do without them
    modulePreload: { polyfill: false },
    target: "es2022",
    chunkSizeWarningLimit: 800,
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
});
