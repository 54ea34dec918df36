/**
 * The style of plots, for the report and for the server's page. Both define --ink, --soft, --line, --edge and --sheet.
 * All of it is below `.plots`, which bears a figure a plot and their legend.
 */

/** How many colours recipes have. */
export const COLOURS = 10;

/** Colours of recipes, in the order of the table: apart in hue and in lightness. */
const colours = (list: string): string =>
  list
    .split(' ')
    .map((colour, i) => `--c${i}:${colour};`)
    .join('');

/** Declarations for the root, on a light and on a dark page. */
export const PLOT_LIGHT = colours('#24211b #0067a3 #c44e00 #00805c #b3478a #8a6d00 #6d3fae #3f97c9 #a11d2e #5b7a1f');
export const PLOT_DARK = colours('#e8e2d5 #4aa3df #ff8a4c #2fc79a #e79cc4 #e6c34a #b890e0 #9fdcff #ff7b88 #b5d46a');

const CLASSES = Array.from({ length: COLOURS }, (_, i) => `.plots .c${i}{--c:var(--c${i})}`).join('\n');

export const PLOT_STYLE = `.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,32rem),1fr));gap:1rem}
.plots figure{container-type:inline-size;min-width:0;margin:0;padding:.75rem;border:1px solid var(--line);border-radius:.6rem;background:var(--sheet)}
.plots figcaption{margin-bottom:.5rem;font-weight:600;font-size:.9375rem}
.plot{display:block;width:100%}
.plot text{fill:var(--ink);font-size:13px}
.plot .point text{stroke:var(--sheet);stroke-width:3px;paint-order:stroke}
.plot .tick,.plot .axis{fill:var(--soft)}
@container (min-width:22rem){.plot text{font-size:11px}}
@container (min-width:30rem){.plot text{font-size:9.5px}}
.plots .grid{stroke:var(--line);fill:none}
.plots .front{stroke:var(--edge);fill:none;stroke-dasharray:4 3}
.plots .leader{stroke:var(--edge);stroke-width:.75;fill:none}
.plots .line{stroke:var(--c);stroke-width:2;fill:none}
.plots .mark{fill:var(--c);stroke:var(--sheet);stroke-width:1}
.plots .legend{grid-column:1/-1;display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:.15rem 1rem;margin:.25rem 0 0;padding:0;list-style:none;font:.8125rem/1.5 ui-monospace,Menlo,Consolas,monospace}
.plots .legend li{display:grid;grid-template-columns:2.2rem minmax(0,1fr);gap:.5rem;align-items:start;overflow-wrap:anywhere}
.plots .legend svg{width:2.2rem;height:1.2rem}
${CLASSES}`;
